//! From a layer's name in Keras to a module's in PyTorch, by rules.
//!
//! A rule is a pattern and what becomes of it. In a pattern `{n}` is a number, `{L}` (a capital) is a letter, which counts
//! from `a` = 0, and `%` is anything. In what becomes of it `{n-1}`, `{n+2}`, `{n*3-1}` compute, `{n/1,2,3}` says in which
//! of groups of these sizes number n is, and where in it: `group.place`; `{n#}` is entry n of a list of names, whose
//! beginnings are shared; and `|` separates names of which one exists.

/// A pattern and what becomes of it.
pub(super) type Rule = (&'static str, &'static str);

/// Names in order: their beginnings, and the ends of each.
pub(super) type List = [(&'static str, &'static [&'static str])];

/// What the rules make of a layer's name, the first that fits: candidates, of which one exists.
pub(super) fn renamed(rules: &[Rule], list: &List, layer: &str) -> Vec<String> {
    let found =
        rules.iter().find_map(|(pattern, target)| Some((captured(pattern, layer)?, target)));
    let Some((captures, target)) = found else { return Vec::new() };
    target.split('|').filter_map(|target| filled(target, &captures, list)).collect()
}

/// The numbers at a pattern's places, if the text is of that pattern.
fn captured(pattern: &str, text: &str) -> Option<Vec<(char, usize)>> {
    let mut captures = Vec::new();
    let (mut pattern, mut text) = (pattern, text);
    if let Some(rest) = pattern.strip_prefix('%') {
        // Up to the first place where the rest begins.
        let literal = rest.split('{').next().unwrap_or(rest);
        text = &text[text.find(literal)?..];
        pattern = rest;
    }
    while let Some((literal, rest)) = pattern.split_once('{') {
        text = text.strip_prefix(literal)?;
        let (name, rest) = rest.split_once('}')?;
        let name = name.chars().next()?;
        let length = if name.is_ascii_uppercase() {
            usize::from(text.starts_with(|first: char| first.is_ascii_lowercase()))
        } else {
            text.bytes().take_while(u8::is_ascii_digit).count()
        };
        let (own, left) = text.split_at(length);
        let value = match own.as_bytes() {
            [letter] if name.is_ascii_uppercase() => usize::from(letter - b'a'),
            _ => own.parse().ok()?,
        };
        captures.push((name, value));
        (pattern, text) = (rest, left);
    }
    (pattern == text).then_some(captures)
}

/// A target with its places filled; nothing where a number would be below 0.
fn filled(target: &str, captures: &[(char, usize)], list: &List) -> Option<String> {
    let mut result = String::new();
    let mut target = target;
    while let Some((literal, rest)) = target.split_once('{') {
        result.push_str(literal);
        let (place, rest) = rest.split_once('}')?;
        let name = place.chars().next()?;
        let (_, value) = captures.iter().find(|(own, _)| *own == name)?;
        result.push_str(&computed(&place[1..], *value, list)?);
        target = rest;
    }
    result.push_str(target);
    Some(result)
}

/// What an expression makes of a number.
fn computed(expression: &str, value: usize, list: &List) -> Option<String> {
    if expression == "#" {
        let names = list.iter().flat_map(|(start, ends)| ends.iter().map(move |end| (start, end)));
        return names.map(|(start, end)| format!("{start}{end}")).nth(value);
    }
    if let Some(sizes) = expression.strip_prefix('/') {
        let mut left = value;
        for (group, size) in sizes.split(',').enumerate() {
            let size: usize = size.parse().ok()?;
            if left < size {
                return Some(format!("{group}.{left}"));
            }
            left -= size;
        }
        return None;
    }
    let (times, rest) = match expression.strip_prefix('*') {
        Some(rest) => {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            (rest[..digits].parse().ok()?, &rest[digits..])
        }
        None => (1, expression),
    };
    let value = i64::try_from(value).ok()?.checked_mul(times)?;
    let plus: i64 = if rest.is_empty() { 0 } else { rest.parse().ok()? };
    let value = value.checked_add(plus).filter(|value| *value >= 0)?;
    Some(value.to_string())
}

#[cfg(test)]
mod tests {
    use super::renamed;

    #[test]
    fn rules_rename() {
        let rules = [
            ("conv{s}_block{b}_0_bn", "layer{s-1}.{b-1}.downsample.1"),
            ("block_{n}_expand", "blocks.{n/1,2,3}.conv"),
            ("block{s}{L}_bn", "blocks.{s-1}.{L}.bn"),
            ("block{b}_sep{k}", "block{b-1}.rep.{k*3-2}|other.{k}"),
            ("%_head_dense", "head.fc"),
            ("bn", "norm5"),
            ("conv2d_{i}", "{i#}"),
        ];
        for (layer, expected) in [
            ("conv3_block12_0_bn", &["layer2.11.downsample.1"][..]),
            ("block_0_expand", &["blocks.0.0.conv"]),
            ("block_5_expand", &["blocks.2.2.conv"]),
            ("block_6_expand", &[]),
            ("block4c_bn", &["blocks.3.2.bn"]),
            ("block4_bn", &[]),
            ("block3_sep2", &["block2.rep.4", "other.2"]),
            ("block0_sep2", &["other.2"]),
            ("convnext_tiny_head_dense", &["head.fc"]),
            ("bn", &["norm5"]),
            ("bn1", &[]),
            ("conv2d_1", &["A.b"]),
            ("conv2d_2", &["B.c"]),
            ("conv2d_3", &[]),
            ("conv99999999999999999999_block1_0_bn", &[]),
        ] {
            assert_eq!(
                renamed(&rules, &[("A.", &["a", "b"]), ("B.", &["c"])], layer),
                expected,
                "{layer}"
            );
        }
    }
}
