//! What a JPEG's markers say, read without its decoder.

/// The payload of the EXIF segment in front of the pixels, if there is one: a TIFF's header and tags.
pub(super) fn exif(bytes: &[u8]) -> Option<&[u8]> {
    segments(bytes).find_map(|(marker, body)| match marker {
        0xE1 => body.strip_prefix(b"Exif\0\0"),
        _ => None,
    })
}

/// Whether an Adobe program's segment is in front of the pixels.
pub(super) fn has_adobe(bytes: &[u8]) -> bool {
    segments(bytes).any(|(marker, body)| marker == 0xEE && body.starts_with(b"Adobe"))
}

/// Markers and bodies from the start to the first scan's header.
fn segments(bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut at = 2;
    let mut is_over = false;
    std::iter::from_fn(move || {
        if is_over {
            return None;
        }
        let (marker, body, behind) = segment(bytes, at)?;
        (at, is_over) = (behind, matches!(marker, 0xDA | 0xD9));
        Some((marker, body))
    })
}

/// The next marker, its body, and where it ends; what is in front of it is passed over, as libjpeg does.
fn segment(bytes: &[u8], from: usize) -> Option<(u8, &[u8], usize)> {
    let mut at = from;
    let marker = loop {
        at += bytes.get(at..)?.iter().position(|&byte| byte == 0xFF)? + 1;
        match *bytes.get(at)? {
            0x00 | 0xFF => {}
            marker => break marker,
        }
    };
    at += 1;
    // Restart markers, start and end have no body.
    if matches!(marker, 0x01 | 0xD0..=0xD9) {
        return Some((marker, &[], at));
    }
    let size = usize::from(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    Some((marker, bytes.get(at + 2..at + size.max(2))?, at + size.max(2)))
}

/// Whether the end's marker is there. Without it Pillow and TensorFlow, too, call a file truncated.
pub(super) fn is_ended(bytes: &[u8]) -> bool {
    if bytes.ends_with(&[0xFF, 0xD9]) {
        return true;
    }
    let mut at = 2;
    while let Some((marker, _, behind)) = segment(bytes, at) {
        if marker == 0xD9 {
            return true;
        }
        at = behind;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_end_where_the_pixels_start() {
        let bytes = [
            &[0xFF, 0xD8, 0xFF, 0xE1, 0, 9][..],
            b"Exif\0\0x",
            &[1, 2, 0xFF, 0xFF, 0xDA, 0, 2, 5, 0xFF, 0, 0xFF, 0xD0, 7],
        ]
        .concat();
        assert_eq!(exif(&bytes), Some(&b"x"[..]));
        assert!(!has_adobe(&bytes) && !is_ended(&bytes));
        assert!(is_ended(&[&bytes[..], &[0xFF, 0xD9, 3, 4]].concat()));
        for cut in 0..bytes.len() {
            assert!(!is_ended(&bytes[..cut]));
            let _ = exif(&bytes[..cut]);
        }
    }
}
