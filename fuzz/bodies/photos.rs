use rekindle_vision::{Channels, Decoding, JpegDecoder, Orientation, Transparency};

/// A panic is a finding even where it is caught: libFuzzer's hook ends the process first.
pub fn run(data: &[u8]) {
    if is_large(data) {
        return;
    }
    // Options come from the bytes, so that seeds are files as they are.
    let choice = data.iter().fold(0_usize, |sum, &byte| sum.wrapping_mul(31) ^ usize::from(byte));
    let decoding = Decoding::default()
        .with_jpeg(JpegDecoder::ALL[choice % 2])
        .with_channels(Channels::ALL[choice / 2 % 3])
        .with_transparency(Transparency::ALL[choice / 6 % 3])
        .with_orientation(Orientation::ALL[choice / 18 % 2])
        .with_fast([None, Some([8, 8]), Some([1, 1])][choice / 36 % 3]);
    if let Ok(photo) = decoding.decode(data, "photo".as_ref()) {
        let count = photo.width() * photo.height() * photo.channels().count();
        assert_eq!(photo.bytes().len(), count);
    }
}

/// Sizes have their own bounds; here they would only cost time.
fn is_large(data: &[u8]) -> bool {
    const MOST: u32 = 1 << 20;
    let frame = |window: &[u8]| {
        let side = |at: usize| u32::from(u16::from_be_bytes([window[at], window[at + 1]]));
        window[0] == 0xFF && matches!(window[1], 0xC0..=0xCF) && side(5) * side(7) > MOST
    };
    let png = |at: usize| {
        data.get(at..at + 4).map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    };
    let is_large_png = data.starts_with(b"\x89PNG") && png(16).saturating_mul(png(20)) > MOST;
    is_large_png || data.starts_with(&[0xFF, 0xD8]) && data.windows(9).any(frame)
}
