//! What a file is, by its content.

/// The kinds of files that are found among photos.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Jpeg,
    Png,
    WebP,
    Bmp,
    Gif,
    Tiff,
    Empty,
    Heic,
    Avif,
    JpegXl,
    Jpeg2000,
    /// A camera's own format, by its usual extension.
    Raw(&'static str),
    Svg,
    Pdf,
    /// A film, by its usual extension.
    Video(&'static str),
    Photoshop,
    Zip,
    Html,
    LfsPointer,
    Unknown,
}

impl Kind {
    /// By the first bytes, and for RAW photos, which are TIFFs besides, by what is named in them.
    pub fn of(bytes: &[u8]) -> Self {
        let starts = |text: &[u8]| bytes.starts_with(text);
        let at =
            |place: usize, text: &[u8]| bytes.get(place..).is_some_and(|b| b.starts_with(text));
        match bytes {
            [] => Self::Empty,
            _ if starts(b"\xFF\xD8\xFF") => Self::Jpeg,
            _ if starts(b"\x89PNG\r\n\x1A\n") => Self::Png,
            _ if starts(b"RIFF") && at(8, b"WEBP") => Self::WebP,
            _ if starts(b"RIFF") && at(8, b"AVI ") => Self::Video("AVI"),
            _ if starts(b"GIF87a") || starts(b"GIF89a") => Self::Gif,
            _ if starts(b"IIRO") || starts(b"IIRS") || starts(b"MMOR") => Self::Raw("ORF"),
            _ if starts(b"IIU\0") => Self::Raw("RW2"),
            _ if starts(b"II*\0") || starts(b"MM\0*") => tiff(bytes),
            _ if starts(b"FUJIFILMCCD-RAW") => Self::Raw("RAF"),
            _ if starts(b"\xFF\x0A") || starts(b"\0\0\0\x0CJXL \r\n\x87\n") => Self::JpegXl,
            _ if starts(b"\xFF\x4F\xFF\x51") || starts(b"\0\0\0\x0CjP  \r\n\x87\n") => {
                Self::Jpeg2000
            }
            _ if at(4, b"ftyp") => boxes(bytes),
            _ if at(4, b"moov") || at(4, b"mdat") || at(4, b"wide") => Self::Video("MOV"),
            _ if starts(b"\x1A\x45\xDF\xA3") => Self::Video("MKV or WebM"),
            _ if starts(b"%PDF-") => Self::Pdf,
            _ if starts(b"8BPS") => Self::Photoshop,
            _ if starts(b"PK\x03\x04") || starts(b"PK\x05\x06") => Self::Zip,
            _ if starts(b"version https://git-lfs.github.com/spec/") => Self::LfsPointer,
            // Two letters are few: the sizes of its headers must fit too.
            [b'B', b'M', ..] if at(14, &[12, 0, 0, 0]) || bytes.get(15..18) == Some(&[0; 3]) => {
                Self::Bmp
            }
            _ => text(bytes),
        }
    }

    /// Whether it is read.
    pub fn is_photo(self) -> bool {
        self.refusal().is_none()
    }

    /// Why it is not read, and what to do.
    pub fn refusal(self) -> Option<String> {
        let convert = |what: &str, how: &str| Some(format!("{what}, which is not read; {how}"));
        let magick = |what: &str, name: &str| {
            convert(what, &format!("convert it, for example with `magick {name} photo.jpg`"))
        };
        match self {
            Self::Jpeg | Self::Png | Self::WebP | Self::Bmp | Self::Gif | Self::Tiff => None,
            Self::Empty => Some("the file is empty".into()),
            Self::Heic => convert(
                "a HEIC photo",
                "convert it, for example with `heif-convert photo.heic photo.jpg`, or have the phone take \
                 JPEGs (iPhone: Settings, Camera, Formats, Most Compatible)",
            ),
            Self::Avif => convert(
                "an AVIF photo",
                "convert it, for example with `avifdec photo.avif photo.png`",
            ),
            Self::JpegXl => convert(
                "a JPEG XL photo",
                "convert it, for example with `djxl photo.jxl photo.jpg`",
            ),
            Self::Jpeg2000 => magick("a JPEG 2000 photo", "photo.jp2"),
            Self::Raw(extension) => convert(
                &format!("a camera's RAW photo ({extension})"),
                &format!(
                    "develop it, for example with `darktable-cli photo.{} photo.jpg`",
                    extension.to_ascii_lowercase()
                ),
            ),
            Self::Svg => convert(
                "an SVG drawing",
                "draw it as pixels, for example with `rsvg-convert drawing.svg -o photo.png`",
            ),
            Self::Pdf => convert(
                "a PDF",
                "make its pages pictures, for example with `pdftoppm -png document.pdf page`",
            ),
            Self::Video(kind) => convert(
                &format!("a video ({kind})"),
                "take frames from it, for example with `ffmpeg -i video -vf fps=1 frame%04d.png`",
            ),
            Self::Photoshop => magick("a Photoshop document", "'picture.psd[0]'"),
            Self::Zip => convert("a ZIP archive", "unpack it"),
            Self::Html => convert("a web page", "the download went wrong: get the photo itself"),
            Self::LfsPointer => {
                convert("a Git LFS pointer", "get the photo that it stands for with `git lfs pull`")
            }
            Self::Unknown => Some(
                "not a photo of a known kind; JPEG, PNG, WebP, BMP, GIF and TIFF are read".into(),
            ),
        }
    }
}

/// HEIC, AVIF, RAW and films are all made of boxes; the brands in the first say what they are.
fn boxes(bytes: &[u8]) -> Kind {
    let size = bytes.get(..4).map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]) as usize);
    let (brands, _) =
        bytes.get(8..size.clamp(12, 128).min(bytes.len())).unwrap_or(&[]).as_chunks::<4>();
    let has = |names: &[&[u8; 4]]| brands.iter().any(|brand| names.contains(&brand));
    match brands.first() {
        _ if has(&[b"avif", b"avis"]) => Kind::Avif,
        _ if has(&[b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"]) => {
            Kind::Heic
        }
        Some(b"crx ") => Kind::Raw("CR3"),
        Some(b"jxl ") => Kind::JpegXl,
        Some(b"jp2 ") => Kind::Jpeg2000,
        Some(b"qt  ") => Kind::Video("MOV"),
        _ => Kind::Video("MP4"),
    }
}

/// A TIFF, or one of the RAW formats that are TIFFs with a maker's name or with DNG's tags.
fn tiff(bytes: &[u8]) -> Kind {
    if bytes.get(8..10) == Some(b"CR") {
        return Kind::Raw("CR2");
    }
    let is_little = bytes[0] == b'I';
    let short = |at: usize| -> Option<u16> {
        let pair = bytes.get(at..)?.first_chunk::<2>()?;
        Some(if is_little { u16::from_le_bytes(*pair) } else { u16::from_be_bytes(*pair) })
    };
    let long = |at: usize| -> Option<usize> {
        let four = bytes.get(at..)?.first_chunk::<4>()?;
        let value = if is_little { u32::from_le_bytes(*four) } else { u32::from_be_bytes(*four) };
        usize::try_from(value).ok()
    };
    let Some(directory) = long(4) else { return Kind::Tiff };
    let count = short(directory).unwrap_or(0);
    let entries = (0..usize::from(count)).map_while(|number| {
        let entry = directory.checked_add(2 + 12 * number)?;
        Some((short(entry)?, long(entry + 4)?, long(entry + 8)?))
    });
    let (mut maker, mut has_inner, mut is_reduced) = (None, false, false);
    for (tag, count, value) in entries {
        match tag {
            // DNG's version.
            0xC612 => return Kind::Raw("DNG"),
            // The maker.
            0x010F => maker = bytes.get(value..value.saturating_add(count.min(5))),
            // Pictures within this one.
            0x014A => has_inner = true,
            // Whether this is the small one.
            0x00FE => is_reduced = value & 1 == 1,
            _ => {}
        }
    }
    match maker {
        Some(b"NIKON") if has_inner && is_reduced => Kind::Raw("NEF"),
        Some(b"SONY " | b"SONY\0" | b"SONY") if has_inner && is_reduced => Kind::Raw("ARW"),
        _ => Kind::Tiff,
    }
}

/// What is written in letters: SVG and web pages.
fn text(bytes: &[u8]) -> Kind {
    let start = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let start = String::from_utf8_lossy(&start[..start.len().min(1024)]).to_ascii_lowercase();
    let start = start.trim_start();
    match start {
        _ if start.starts_with("<svg") => Kind::Svg,
        _ if start.starts_with("<?xml")
            || start.starts_with("<!--")
            || start.starts_with("<!doctype svg") =>
        {
            if start.contains("<svg") || start.contains("<!doctype svg") {
                Kind::Svg
            } else {
                Kind::Unknown
            }
        }
        _ if start.starts_with("<!doctype html") || start.starts_with("<html") => Kind::Html,
        _ => Kind::Unknown,
    }
}
