//! One file over HTTP: resumed, tried again, never longer than it may be.

use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::path::Path;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ureq::Agent;
use ureq::http::Response;
use ureq::tls::{RootCerts, TlsConfig};

use super::{Downloader, beside};

/// Why an attempt failed, and whether another one may not.
enum Failure {
    Final(String),
    Passing(String),
}

/// Where a file is, and who asks for it.
#[derive(Clone, Copy)]
pub(super) struct Address<'a> {
    pub url: &'a str,
    /// For the server of the address alone: redirections do not get it.
    pub token: Option<&'a str>,
}

/// Downloads into `part`, going on where an earlier attempt ended.
pub(super) fn download(
    downloader: &Downloader,
    address: Address<'_>,
    part: &Path,
    name: &str,
) -> Result<(), String> {
    let bar = bar(name, downloader.bar);
    let done =
        tried(downloader, address.url, |agent| request(downloader, agent, address, part, &bar));
    bar.finish_and_clear();
    done
}

/// What a server says of a file.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub status: u16,
    headers: ureq::http::HeaderMap,
}

impl Said {
    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Asks what a server says of a file, without the file; redirections are not followed.
pub(super) fn asked(downloader: &Downloader, address: Address<'_>) -> Result<Said, String> {
    tried(downloader, address.url, |agent| {
        let mut head = agent.head(address.url);
        if let Some(token) = address.token {
            head = head.header("Authorization", format!("Bearer {token}"));
        }
        let head = head.config().max_redirects(0).max_redirects_will_error(false).build();
        let response = head.call().map_err(failure)?;
        let status = response.status().as_u16();
        match status {
            408 | 425 | 429 | 500.. => Err(Failure::Passing(format!("status {status}"))),
            _ => Ok(Said { status, headers: response.headers().clone() }),
        }
    })
}

fn failure(error: ureq::Error) -> Failure {
    match error {
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => Failure::Final(error.to_string()),
        _ => Failure::Passing(error.to_string()),
    }
}

/// Does it until it is done, or cannot be.
fn tried<T>(
    downloader: &Downloader,
    url: &str,
    mut once: impl FnMut(&Agent) -> Result<T, Failure>,
) -> Result<T, String> {
    // The system's certificates, as a company's proxy may want; a bare container has none.
    let mut agent = agent_with(downloader, url, RootCerts::PlatformVerifier)?;
    let mut wait = downloader.wait;
    let mut attempt = 0;
    loop {
        attempt += 1;
        match once(&agent) {
            Ok(done) => return Ok(done),
            Err(Failure::Final(reason)) => return Err(reason),
            Err(Failure::Passing(reason)) if reason.contains("No CA certificates") => {
                agent = agent_with(downloader, url, RootCerts::WebPki)?;
            }
            Err(Failure::Passing(reason)) if attempt >= downloader.attempts => {
                return Err(format!("{reason} (after {attempt} attempts)"));
            }
            Err(Failure::Passing(reason)) => tracing::warn!("{url}: {reason}; trying again"),
        }
        std::thread::sleep(wait);
        wait *= 2;
    }
}

fn agent_with(downloader: &Downloader, url: &str, roots: RootCerts) -> Result<Agent, String> {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(Duration::from_secs(10).min(downloader.timeout)))
        .timeout_recv_response(Some(downloader.timeout))
        .timeout_per_read(Some(downloader.timeout))
        .user_agent(concat!("rekindle/", env!("CARGO_PKG_VERSION")));
    if !url.starts_with("https:") {
        return Ok(config.build().new_agent());
    }
    Ok(config.tls_config(tls(roots)?).build().new_agent())
}

/// TLS in Rust alone; it wants a processor of the last ten years.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn tls(roots: RootCerts) -> Result<TlsConfig, String> {
    #[cfg(target_arch = "x86_64")]
    let has_all = is_x86_feature_detected!("aes")
        && is_x86_feature_detected!("pclmulqdq")
        && is_x86_feature_detected!("ssse3")
        && is_x86_feature_detected!("adx")
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2");
    #[cfg(target_arch = "aarch64")]
    let has_all = std::arch::is_aarch64_feature_detected!("neon")
        && std::arch::is_aarch64_feature_detected!("aes")
        && std::arch::is_aarch64_feature_detected!("pmull")
        && std::arch::is_aarch64_feature_detected!("sha2");
    if !has_all {
        return Err("this processor is too old for https".into());
    }
    let provider = Arc::new(rustls_graviola::default_provider());
    let tls = TlsConfig::builder().root_certs(roots);
    Ok(tls.unversioned_rustls_crypto_provider(provider).build())
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn tls(_: RootCerts) -> Result<TlsConfig, String> {
    Err("https is not supported on this processor".into())
}

fn bar(name: &str, is_drawn: bool) -> ProgressBar {
    let bar = ProgressBar::no_length();
    if !is_drawn || !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let template =
        "{msg} {bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.with_message(name.to_owned())
}

/// One request for what is not there yet.
fn request(
    downloader: &Downloader,
    agent: &Agent,
    address: Address<'_>,
    part: &Path,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    let disk = |error: std::io::Error| Failure::Final(format!("{}: {error}", part.display()));
    let tag_file = beside(part, ".etag");
    let there = std::fs::metadata(part).map_or(0, |metadata| metadata.len());
    // Without a tag the server's file may be another one by now.
    let tag = std::fs::read_to_string(&tag_file).ok().filter(|tag| there > 0 && !tag.is_empty());
    let mut get = agent.get(address.url);
    if let Some(token) = address.token {
        get = get.header("Authorization", format!("Bearer {token}"));
    }
    if let Some(tag) = &tag {
        get = get.header("Range", format!("bytes={there}-")).header("If-Range", tag);
    }
    let mut response = get.call().map_err(failure)?;
    let status = response.status().as_u16();
    let start = match status {
        200 => 0,
        206 if tag.is_some() => match range_start(&response) {
            Some(start) if start == there => there,
            found => {
                discard(part, &tag_file);
                let got = found.map_or("no range".into(), |start| format!("them from {start}"));
                let reason = format!("asked for bytes from {there}, got {got}");
                return Err(Failure::Passing(reason));
            }
        },
        416 => {
            discard(part, &tag_file);
            return Err(Failure::Passing("the server has a shorter file".into()));
        }
        404 | 410 => {
            return Err(Failure::Final(format!("status {status}: the server has no such file")));
        }
        408 | 425 | 429 | 500.. => return Err(Failure::Passing(format!("status {status}"))),
        _ => return Err(Failure::Final(format!("status {status}, expected 200"))),
    };
    let header = |name: &str| response.headers().get(name)?.to_str().ok().map(str::to_owned);
    let length: Option<u64> = header("content-length").and_then(|length| length.parse().ok());
    let total = length.map(|length| start.saturating_add(length));
    if let Some(total) = total.filter(|&total| total > downloader.largest) {
        let largest = downloader.largest;
        return Err(Failure::Final(format!("{total} bytes, expected at most {largest}")));
    }
    let new_tag = header("etag").filter(|tag| !tag.starts_with("W/"));
    let mut file = if start == 0 {
        match new_tag {
            Some(tag) => std::fs::write(&tag_file, tag).map_err(disk)?,
            None => drop(std::fs::remove_file(&tag_file)),
        }
        File::create(part).map_err(disk)?
    } else {
        File::options().append(true).open(part).map_err(disk)?
    };
    if let Some(total) = total {
        bar.set_length(total);
    }
    bar.set_position(start);
    let mut body = response.body_mut().as_reader();
    let (mut buffer, mut done) = (vec![0; 1 << 16], start);
    loop {
        let read = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) => {
                file.sync_all().map_err(disk)?;
                return Err(Failure::Passing(format!("after {done} bytes: {error}")));
            }
        };
        done += read as u64;
        if done > downloader.largest {
            discard(part, &tag_file);
            let largest = downloader.largest;
            return Err(Failure::Final(format!("more than {largest} bytes")));
        }
        file.write_all(&buffer[..read]).map_err(disk)?;
        bar.set_position(done);
    }
    file.sync_all().map_err(disk)?;
    match total {
        Some(total) if done < total => {
            Err(Failure::Passing(format!("the connection ended after {done} of {total} bytes")))
        }
        _ => {
            let _ = std::fs::remove_file(&tag_file);
            Ok(())
        }
    }
}

/// The first byte of a part, as the server says.
fn range_start<T>(response: &Response<T>) -> Option<u64> {
    let range = response.headers().get("content-range")?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

fn discard(part: &Path, tag_file: &Path) {
    let _ = std::fs::remove_file(part);
    let _ = std::fs::remove_file(tag_file);
}
