//! From a layer's name in Keras to a module's in PyTorch, by rules.
//!
//! A rule is a pattern and what becomes of it. In a pattern `{n}` is a number, `{L}` (a capital) is a letter, which counts
//! from `a` = 0, and `%` is anything. In what becomes of it `{n-1}`, `{n+2}`, `{n*3-1}` compute, `{n/1,2,3}` says in which
//! of groups of these sizes number n is, and where in it: `group.place`; `{n#}` is entry n of a list of names, whose
//! beginnings are shared; `{n@_conv}` is how many layers in front of this one have names that end in `_conv`, and
//! `{n@_conv-1}` one less. `LAYER?A:B` is A where the network has a layer of that name, and B where it has none. `|` stands
//! between timm's name and torchvision's, where these differ. `[2]` behind a name is how many axes the module's weight has,
//! where these are not those of the layer's own kernel.

/// A pattern and what becomes of it.
pub(super) type Rule = (&'static str, &'static str);

/// Names in order: their beginnings, and the ends of each.
pub(super) type List = [(&'static str, &'static [&'static str])];

/// A module, as rules have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Module {
    /// Its path: `layer1.0.conv1`.
    pub path: String,
    /// How many axes its weight has, where it is not as many as the layer's kernel.
    pub axes: Option<usize>,
}

/// What the rules make of the name of one of a network's layers, the first that fits: timm's module and torchvision's, or one of
/// both.
pub(super) fn renamed(rules: &[Rule], list: &List, layer: &str, layers: &[&str]) -> Vec<Module> {
    let found =
        rules.iter().find_map(|(pattern, target)| Some((captured(pattern, layer)?, target)));
    let Some((captures, target)) = found else { return Vec::new() };
    target.split('|').filter_map(|target| module(target, &captures, list, layer, layers)).collect()
}

/// One alternative of a target.
fn module(
    target: &str,
    captures: &[Capture<'_>],
    list: &List,
    layer: &str,
    layers: &[&str],
) -> Option<Module> {
    let chosen = match target.split_once('?') {
        None => target,
        Some((other, choice)) => {
            let (there, absent) = choice.split_once(':')?;
            let other = repeated(other, captures)?;
            if layers.contains(&other.as_str()) { there } else { absent }
        }
    };
    let (chosen, axes) = match chosen.strip_suffix(']').and_then(|rest| rest.rsplit_once('[')) {
        Some((chosen, axes)) => (chosen, Some(axes.parse().ok()?)),
        None => (chosen, None),
    };
    let path =
        placed(chosen, captures, |expression, _, value| match expression.strip_prefix('@') {
            Some(counted) => before(counted, layer, layers),
            None => computed(expression, value, list),
        })?;
    Some(Module { path, axes })
}

/// What stands at a pattern's place: the place's name, the text, and its number.
type Capture<'a> = (char, &'a str, usize);

/// What stands at a pattern's places, if the text is of that pattern.
fn captured<'a>(pattern: &str, text: &'a str) -> Option<Vec<Capture<'a>>> {
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
        captures.push((name, own, value));
        (pattern, text) = (rest, left);
    }
    (pattern == text).then_some(captures)
}

/// How many layers in front of one have names that end so, or one less of them.
fn before(counted: &str, layer: &str, layers: &[&str]) -> Option<String> {
    let (end, less) = counted.strip_suffix("-1").map_or((counted, 0), |end| (end, 1));
    let in_front = layers.iter().take_while(|name| **name != layer);
    let count = in_front.filter(|name| name.ends_with(end)).count();
    Some(count.checked_sub(less)?.to_string())
}

/// A layer's name with the texts of the pattern at its places.
fn repeated(layer: &str, captures: &[Capture<'_>]) -> Option<String> {
    placed(layer, captures, |_, text, _| Some(text.to_owned()))
}

/// A text with something at its places, made of the expression there, and of what the pattern has captured.
fn placed(
    text: &str,
    captures: &[Capture<'_>],
    made: impl Fn(&str, &str, usize) -> Option<String>,
) -> Option<String> {
    let mut result = String::new();
    let mut text = text;
    while let Some((literal, rest)) = text.split_once('{') {
        result.push_str(literal);
        let (place, rest) = rest.split_once('}')?;
        let name = place.chars().next()?;
        let (_, own, value) = captures.iter().find(|(other, _, _)| *other == name)?;
        result.push_str(&made(&place[1..], own, *value)?);
        text = rest;
    }
    result.push_str(text);
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
            ("%_head_dense", "head.fc[2]"),
            ("bn", "norm5"),
            ("conv2d_{i}", "{i#}"),
            ("stage{s}{L}_project", "stage{s}{L}_expand?a.{L}:b.{L}[4]"),
            ("stage{s}{L}_expand", "all.{s@_project}"),
            ("stage{s}{L}_bn", "all.{s@_project-1}"),
        ];
        let layers =
            ["stage1a_bn", "stage1a_project", "stage2a_project", "stage2b_expand", "stage2b_bn"];
        for (layer, expected) in [
            ("conv3_block12_0_bn", &[("layer2.11.downsample.1", None)][..]),
            ("block_0_expand", &[("blocks.0.0.conv", None)]),
            ("block_5_expand", &[("blocks.2.2.conv", None)]),
            ("block_6_expand", &[]),
            ("block4c_bn", &[("blocks.3.2.bn", None)]),
            ("block4_bn", &[]),
            ("block3_sep2", &[("block2.rep.4", None), ("other.2", None)]),
            ("block0_sep2", &[("other.2", None)]),
            ("convnext_tiny_head_dense", &[("head.fc", Some(2))]),
            ("bn", &[("norm5", None)]),
            ("bn1", &[]),
            ("conv2d_1", &[("A.b", None)]),
            ("conv2d_2", &[("B.c", None)]),
            ("conv2d_3", &[]),
            ("conv99999999999999999999_block1_0_bn", &[]),
            ("stage2b_project", &[("a.1", None)]),
            ("stage2a_project", &[("b.0", Some(4))]),
            ("stage2b_expand", &[("all.2", None)]),
            ("stage2b_bn", &[("all.1", None)]),
            ("stage1a_bn", &[]),
        ] {
            let found = renamed(&rules, &[("A.", &["a", "b"]), ("B.", &["c"])], layer, &layers);
            let found: Vec<(&str, Option<usize>)> =
                found.iter().map(|module| (module.path.as_str(), module.axes)).collect();
            assert_eq!(found, expected, "{layer}");
        }
    }
}
