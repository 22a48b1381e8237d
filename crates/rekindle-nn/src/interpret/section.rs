use burn::tensor::backend::Backend;

use crate::{Interpreter, Network, NetworkError, Op, Shape};

use super::Summarize;

/// Runs another interpreter on a part of a network only: the layers behind one name, up to another.
///
/// This is the cut that transfer learning makes: what is before it is frozen and computed once,
/// what is behind it trains.
#[derive(Debug)]
pub struct Section<I, V> {
    inner: I,
    /// The value of the layer behind which the section starts.
    from: Option<(String, V)>,
    /// The section's last layer.
    to: Option<String>,
    active: bool,
}

impl<I, V: Clone> Section<I, V> {
    /// From the input up to and with layer `to`.
    pub fn until<B, N>(network: &N, inner: I, to: &str, input: V) -> Result<V, NetworkError>
    where
        B: Backend,
        N: Network<B>,
        I: Interpreter<B, Value = V>,
    {
        let mut section = Self { inner, from: None, to: Some(to.to_owned()), active: true };
        let end = network.walk(&mut section, Some(Cut { value: input, last: false }))?;
        section.finish(network, end)
    }

    /// What comes behind layer `from`, whose output is `value`, to the network's end.
    pub fn after<B, N>(network: &N, inner: I, from: &str, value: V) -> Result<V, NetworkError>
    where
        B: Backend,
        N: Network<B>,
        I: Interpreter<B, Value = V>,
    {
        let from = Some((from.to_owned(), value));
        let mut section = Self { inner, from, to: None, active: false };
        let end = network.walk(&mut section, None)?;
        section.finish(network, end)
    }

    fn finish<B: Backend, N: Network<B>>(
        &self,
        network: &N,
        end: Option<Cut<V>>,
    ) -> Result<V, NetworkError> {
        match end {
            Some(cut) if self.to.is_none() || cut.last => Ok(cut.value),
            _ => {
                let name = self.to.as_ref().or(self.from.as_ref().map(|(name, _)| name));
                Err(unknown_layer(network, name.map_or("", String::as_str)))
            }
        }
    }
}

/// A value inside the section; `last` once it is the one that the section ends with.
#[derive(Debug, Clone)]
pub struct Cut<V> {
    value: V,
    last: bool,
}

impl<B: Backend, I: Interpreter<B>> Interpreter<B> for Section<I, I::Value> {
    /// Nothing, where a layer is outside of the section.
    type Value = Option<Cut<I::Value>>;

    fn layer(
        &mut self,
        name: &str,
        op: Op<'_, B>,
        inputs: Vec<Self::Value>,
    ) -> Result<Self::Value, NetworkError> {
        if let Some((from, value)) = &self.from
            && !self.active
        {
            self.active = from == name;
            return Ok(self.active.then(|| Cut { value: value.clone(), last: false }));
        }
        // Behind the last layer its value is handed through to the network's end.
        if !self.active {
            let last = inputs.into_iter().flatten().find(|cut| cut.last);
            return Ok(last);
        }
        let values: Option<Vec<_>> =
            inputs.into_iter().map(|cut| cut.map(|cut| cut.value)).collect();
        let Some(values) = values else {
            let cut = self.from.as_ref().map(|(from, _)| from.clone()).unwrap_or_default();
            return Err(NetworkError::NotASplit { cut, layer: name.to_owned() });
        };
        let value = self.inner.layer(name, op, values)?;
        let last = self.to.as_deref() == Some(name);
        self.active = !last;
        Ok(Some(Cut { value, last }))
    }
}

/// The error for a name that no layer has, with the names most like it.
pub fn unknown_layer<B: Backend, N: Network<B>>(network: &N, name: &str) -> NetworkError {
    let mut summarize = Summarize::default().without_shapes();
    let input = summarize.input("input_layer", Shape::Flat(0));
    // Without shapes a walk cannot fail.
    let _ = network.walk(&mut summarize, input);
    let mut near: Vec<(usize, String)> = summarize
        .finish()
        .layers
        .into_iter()
        .map(|row| (edit_distance(&row.name, name), row.name))
        .collect();
    near.sort();
    let near = near.into_iter().take(3).map(|(_, name)| name).collect();
    NetworkError::UnknownLayer { name: name.to_owned(), near }
}

/// Levenshtein's distance.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
