//! The signatures of requests, without C.

use hmac::{Hmac, KeyInit, Mac};
use object_store::client::{
    CryptoProvider, DigestAlgorithm, DigestContext, HmacContext, Signer, SigningAlgorithm,
};
use object_store::{Error, Result};
use sha2::{Digest, Sha256};

#[derive(Debug)]
pub(crate) struct Rust;

fn wrong(reason: &str) -> Error {
    Error::Generic { store: "signature", source: reason.into() }
}

#[derive(Default)]
struct Hash {
    hash: Sha256,
    done: Vec<u8>,
}

impl DigestContext for Hash {
    fn update(&mut self, data: &[u8]) {
        Digest::update(&mut self.hash, data);
    }

    fn finish(&mut self) -> Result<&[u8]> {
        self.done = self.hash.clone().finalize().to_vec();
        Ok(&self.done)
    }
}

struct Code {
    code: Hmac<Sha256>,
    done: Vec<u8>,
}

impl HmacContext for Code {
    fn update(&mut self, data: &[u8]) {
        Mac::update(&mut self.code, data);
    }

    fn finish(&mut self) -> Result<&[u8]> {
        self.done = self.code.clone().finalize().into_bytes().to_vec();
        Ok(&self.done)
    }
}

impl CryptoProvider for Rust {
    fn digest(&self, algorithm: DigestAlgorithm) -> Result<Box<dyn DigestContext>> {
        match algorithm {
            DigestAlgorithm::Sha256 => Ok(Box::new(Hash::default())),
            _ => Err(wrong("a digest that is not SHA-256")),
        }
    }

    fn hmac(&self, algorithm: DigestAlgorithm, secret: &[u8]) -> Result<Box<dyn HmacContext>> {
        let DigestAlgorithm::Sha256 = algorithm else {
            return Err(wrong("a code that is not SHA-256's"));
        };
        let code = Hmac::new_from_slice(secret).map_err(|_| wrong("a secret of no use"))?;
        Ok(Box::new(Code { code, done: Vec::new() }))
    }

    fn sign(&self, algorithm: SigningAlgorithm, pem: &[u8]) -> Result<Box<dyn Signer>> {
        match algorithm {
            SigningAlgorithm::RS256 => rsa::signer(pem),
            _ => Err(wrong("a signature that is not RS256")),
        }
    }
}

/// Google's service accounts sign with RSA.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod rsa {
    use std::sync::Arc;

    use object_store::Result;
    use object_store::client::Signer;
    use rustls::SignatureScheme;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::pem::PemObject;
    use rustls::sign::SigningKey;

    use super::wrong;

    #[derive(Debug)]
    struct Key(Arc<dyn SigningKey>);

    pub fn signer(pem: &[u8]) -> Result<Box<dyn Signer>> {
        let key = PrivateKeyDer::from_pem_slice(pem);
        let key = key.map_err(|_| wrong("a private key that is no PEM"))?;
        let provider = rustls_graviola::default_provider().key_provider;
        let key = provider.load_private_key(key);
        Ok(Box::new(Key(key.map_err(|_| wrong("a private key that is not RSA's"))?)))
    }

    impl Signer for Key {
        fn sign(&self, text: &[u8]) -> Result<Vec<u8>> {
            let signer = self.0.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256]);
            let signer = signer.ok_or_else(|| wrong("a private key that is not RSA's"))?;
            signer.sign(text).map_err(|_| wrong("RSA cannot sign with this key"))
        }
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod rsa {
    use object_store::Result;
    use object_store::client::Signer;

    pub fn signer(_: &[u8]) -> Result<Box<dyn Signer>> {
        Err(super::wrong("RSA is not supported on this processor"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digits(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn codes_are_those_of_rfc_4231() {
        let mut code = Rust.hmac(DigestAlgorithm::Sha256, b"Jefe").expect("a code");
        code.update(b"what do ya want ");
        code.update(b"for nothing?");
        assert_eq!(
            digits(code.finish().expect("finishes")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        let mut hash = Rust.digest(DigestAlgorithm::Sha256).expect("a digest");
        hash.update(b"abc");
        assert_eq!(
            digits(hash.finish().expect("finishes")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
