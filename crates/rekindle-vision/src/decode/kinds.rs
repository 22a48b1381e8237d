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

#[cfg(test)]
mod tests {
    use super::*;

    /// A little TIFF of entries (tag, count, value), with some text behind them.
    fn tiff(entries: &[(u16, u32, u32)], text: &[u8]) -> Vec<u8> {
        let mut bytes = b"II*\0\x08\0\0\0".to_vec();
        bytes.extend((entries.len() as u16).to_le_bytes());
        for (tag, count, value) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend([2, 0]);
            bytes.extend(count.to_le_bytes());
            bytes.extend(value.to_le_bytes());
        }
        bytes.extend([0; 4]);
        [&bytes, text].concat()
    }

    #[test]
    fn kinds_are_told_by_content() {
        let behind = |entries: u32| 8 + 2 + 12 * entries + 4;
        let nikon =
            tiff(&[(0xFE, 1, 1), (0x10F, 18, behind(3)), (0x14A, 1, 0)], b"NIKON CORPORATION");
        let sony = tiff(&[(0xFE, 1, 1), (0x10F, 5, behind(3)), (0x14A, 1, 0)], b"SONY\0");
        let scan = tiff(&[(0x10F, 18, behind(1))], b"NIKON CORPORATION");
        let dng = tiff(&[(0xC612, 4, 1)], b"");
        for (bytes, kind) in [
            (&b"\xFF\xD8\xFF\xE0"[..], Kind::Jpeg),
            (b"RIFF....WEBPVP8 ", Kind::WebP),
            (b"RIFF....AVI LIST", Kind::Video("AVI")),
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", Kind::Heic),
            (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", Kind::Avif),
            (b"\0\0\0\x14ftypisom\0\0\0\0isom", Kind::Video("MP4")),
            (b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", Kind::Video("MOV")),
            (b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom", Kind::Raw("CR3")),
            (b"\0\0\0\x08moov", Kind::Video("MOV")),
            (b"\x1A\x45\xDF\xA3\x01", Kind::Video("MKV or WebM")),
            (b"\xFF\x0A\xFA", Kind::JpegXl),
            (b"\0\0\0\x0CJXL \r\n\x87\n\0", Kind::JpegXl),
            (b"\0\0\0\x0CjP  \r\n\x87\n", Kind::Jpeg2000),
            (b"II*\0\x10\0\0\0CR\x02\0", Kind::Raw("CR2")),
            (b"IIRO\x08\0\0\0", Kind::Raw("ORF")),
            (b"IIU\0\x18\0\0\0", Kind::Raw("RW2")),
            (b"FUJIFILMCCD-RAW 0201", Kind::Raw("RAF")),
            (&nikon, Kind::Raw("NEF")),
            (&sony, Kind::Raw("ARW")),
            (&dng, Kind::Raw("DNG")),
            (&scan, Kind::Tiff),
            (b"MM\0*\xFF\xFF\xFF\xFF", Kind::Tiff),
            (b"%PDF-1.7", Kind::Pdf),
            (b"8BPS\0\x01", Kind::Photoshop),
            (b"PK\x03\x04", Kind::Zip),
            (b"\xEF\xBB\xBF  <svg xmlns=", Kind::Svg),
            (b"<?xml version=\"1.0\"?>\n<!-- --><svg>", Kind::Svg),
            (b"<?xml version=\"1.0\"?><note/>", Kind::Unknown),
            (b"\n<!DOCTYPE HTML><html>", Kind::Html),
            (b"version https://git-lfs.github.com/spec/v1\noid", Kind::LfsPointer),
            (b"BM, as a text may start", Kind::Unknown),
            (b"", Kind::Empty),
            (b"hello", Kind::Unknown),
        ] {
            assert_eq!(Kind::of(bytes), kind, "{bytes:?}");
            let is_read = matches!(kind, Kind::Jpeg | Kind::WebP | Kind::Tiff);
            assert_eq!(kind.refusal().is_none(), is_read, "{kind:?}");
            for cut in 0..bytes.len() {
                let _ = Kind::of(&bytes[..cut]);
            }
        }
        let heic = Kind::Heic.refusal().expect("not read");
        assert!(heic.starts_with("a HEIC photo, which is not read; convert it"), "{heic}");
    }
}
