use std::collections::HashMap;
use std::sync::Arc;

use burn::module::{
    AutodiffModule, Content, Devices, HasAutodiffModule, Module, ModuleDisplay,
    ModuleDisplayDefault, ModuleMapper, ModuleVisitor, Param, ParamId,
};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Tensor, TensorData};

use crate::graph::{Graph, Part, Source};
use crate::init;
use crate::run::{Eager, Features};
use crate::{Architecture, NetworkError, Op, Shape, VariableSpec};

/// The one Burn module of all networks: a graph and its parameters. Copies share the graph.
///
/// Burn's stores see parameters as `LAYER.VARIABLE`, in Keras's names: `Conv1.kernel`.
#[derive(Debug, Clone)]
pub struct Network<B: Backend> {
    graph: Arc<Graph>,
    /// For each layer, in the order of its variables.
    parameters: Vec<Vec<Parameter<B>>>,
}

/// One variable of one layer.
#[derive(Debug, Clone)]
pub(crate) struct Parameter<B: Backend> {
    spec: VariableSpec,
    value: Ranked<B>,
}

/// A parameter of a rank that is only known when a graph is read.
#[derive(Debug, Clone)]
enum Ranked<B: Backend> {
    Vector(Param<Tensor<B, 1>>),
    Matrix(Param<Tensor<B, 2>>),
    Kernel(Param<Tensor<B, 4>>),
}

/// Calls with the parameter that is there.
macro_rules! ranked {
    ($value:expr, $param:ident => $result:expr) => {
        match $value {
            Ranked::Vector($param) => $result,
            Ranked::Matrix($param) => $result,
            Ranked::Kernel($param) => $result,
        }
    };
}

/// The same, with what comes of it in the parameter's place.
macro_rules! reranked {
    ($value:expr, $param:ident => $result:expr) => {
        match $value {
            Ranked::Vector($param) => Ranked::Vector($result),
            Ranked::Matrix($param) => Ranked::Matrix($result),
            Ranked::Kernel($param) => Ranked::Kernel($result),
        }
    };
}

impl<B: Backend> Parameter<B> {
    fn init(layer: &str, spec: VariableSpec, seed: u64, device: &B::Device) -> Self {
        let value = match spec.burn_shape()[..] {
            [a] => Ranked::Vector(init::parameter([a], layer, &spec, seed, device)),
            [a, b] => Ranked::Matrix(init::parameter([a, b], layer, &spec, seed, device)),
            [a, b, c, d] => {
                Ranked::Kernel(init::parameter([a, b, c, d], layer, &spec, seed, device))
            }
            _ => unreachable!("an operation's variables have one, two or four axes in Burn"),
        };
        Self { spec, value }
    }

    fn id(&self) -> ParamId {
        ranked!(&self.value, param => param.id)
    }
}

/// A layer as it is walked over: what it does, and its parameters.
#[derive(Debug, Clone, Copy)]
pub struct LayerView<'a, B: Backend> {
    /// The layer's Keras name.
    pub name: &'a str,
    /// What it does.
    pub op: &'a Op,
    /// Whether its output is the network's.
    pub is_output: bool,
    /// The shape of its output.
    pub shape: Shape,
    graph: &'a Graph,
    position: usize,
    parameters: &'a [Parameter<B>],
}

impl<'a, B: Backend> LayerView<'a, B> {
    /// The shapes of what it takes.
    #[must_use]
    pub fn input_shapes(&self) -> Vec<Shape> {
        self.graph.input_shapes(self.position)
    }

    /// Its variables, and the Burn parameters that hold them.
    pub fn variables(&self) -> impl Iterator<Item = (&'a VariableSpec, ParamId)> + 'a {
        self.parameters.iter().map(|parameter| (&parameter.spec, parameter.id()))
    }

    /// The values of a variable as a Burn tensor, if the layer has it.
    #[must_use]
    pub fn find<const D: usize>(&self, variable: &str) -> Option<Tensor<B, D>> {
        let parameter = self.parameters.iter().find(|parameter| parameter.spec.name == variable)?;
        ranked!(&parameter.value, param => {
            let value = param.val();
            // Between equal ranks this is the tensor itself.
            (value.dims().len() == D).then(|| Tensor::from_primitive(value.into_primitive()))
        })
    }

    /// The values of a variable in Keras's layout, on the host, if the layer has it.
    #[must_use]
    pub fn host(&self, variable: &str) -> Option<Vec<f32>> {
        let parameter = self.parameters.iter().find(|parameter| parameter.spec.name == variable)?;
        let data = ranked!(&parameter.value, param => param.val().into_data());
        Some(parameter.spec.from_burn(floats(data)))
    }

    /// The Burn parameter that holds a variable, if the layer has it.
    #[must_use]
    pub fn id(&self, variable: &str) -> Option<ParamId> {
        self.variables().find(|(spec, _)| spec.name == variable).map(|(_, id)| id)
    }
}

/// The values of a tensor as f32, whatever the backend computes with.
#[must_use]
pub fn floats(data: TensorData) -> Vec<f32> {
    data.convert::<f32>()
        .into_vec()
        .unwrap_or_else(|error| unreachable!("it has just become f32: {error:?}"))
}

/// One variable of a network: the layer that has it, and what Keras knows of it.
#[derive(Debug, Clone)]
pub struct Variable {
    /// The layer's Keras name.
    pub layer: String,
    /// Keras's layer class.
    pub kind: &'static str,
    /// Name, shape and layout.
    pub spec: VariableSpec,
    /// The Burn parameter that holds it.
    pub id: ParamId,
}

impl Variable {
    /// `layer/variable`, as in `Conv1/kernel`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/{}", self.layer, self.spec.name)
    }
}

/// Something that gives the layers of a network a meaning: computes them, lowers them, taps them.
pub trait Interpreter<B: Backend> {
    /// What flows between layers: a tensor, a node's number, nothing.
    type Value: Clone;

    /// One layer, and what goes in.
    ///
    /// # Errors
    /// When the layer cannot take its inputs.
    fn layer(
        &mut self,
        layer: LayerView<'_, B>,
        inputs: Vec<Self::Value>,
    ) -> Result<Self::Value, NetworkError>;
}

impl<B: Backend, I: Interpreter<B>> Interpreter<B> for &mut I {
    type Value = I::Value;

    fn layer(
        &mut self,
        layer: LayerView<'_, B>,
        inputs: Vec<I::Value>,
    ) -> Result<I::Value, NetworkError> {
        (**self).layer(layer, inputs)
    }
}

impl<B: Backend> Network<B> {
    /// A network with random weights until others are loaded; they depend on the seed and the layers' names.
    #[must_use]
    pub fn init(graph: Graph, seed: u64, device: &B::Device) -> Self {
        let parameters = 0..graph.layers().len();
        let parameters = parameters.map(|position| init_layer(&graph, position, seed, device));
        Self { parameters: parameters.collect(), graph: Arc::new(graph) }
    }

    /// Puts a head on a network: `graph` begins with the layers of this one, whose parameters it keeps; those behind
    /// them start at random.
    ///
    /// # Errors
    /// When `graph` begins otherwise.
    pub fn extend(
        mut self,
        graph: Graph,
        seed: u64,
        device: &B::Device,
    ) -> Result<Self, NetworkError> {
        let own = self.graph.layers();
        if graph.input() != self.graph.input() || !graph.layers().starts_with(own) {
            return Err(NetworkError::graph("it does not begin with the network's layers".into()));
        }
        let new = own.len()..graph.layers().len();
        self.parameters.extend(new.map(|position| init_layer(&graph, position, seed, device)));
        Ok(Self { graph: Arc::new(graph), ..self })
    }

    /// Its layers and how they hang together.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// What the base is, where that is known.
    #[must_use]
    pub fn architecture(&self) -> Option<Architecture> {
        self.graph.base().architecture
    }

    /// The base alone, without the head.
    #[must_use]
    pub fn without_head(mut self) -> Self {
        self.parameters.truncate(self.graph.base().layers);
        Self { graph: Arc::new(self.graph.without_head()), ..self }
    }

    /// The same for square images of this many pixels a side.
    ///
    /// # Errors
    /// When a layer cannot take them, or a variable would have another shape.
    pub fn with_size(self, size: usize) -> Result<Self, NetworkError> {
        let channels = self.graph.input().channels();
        self.with_input(Shape::map(size, size, channels))
    }

    /// The same for images of another shape.
    ///
    /// # Errors
    /// When a layer cannot take them, or a variable would have another shape.
    pub fn with_input(self, input: Shape) -> Result<Self, NetworkError> {
        if input == self.graph.input() {
            return Ok(self);
        }
        Ok(Self { graph: Arc::new(self.graph.with_input(input)?), ..self })
    }

    /// A layer, by its position.
    #[must_use]
    pub fn view(&self, position: usize) -> LayerView<'_, B> {
        let layer = &self.graph.layers()[position];
        let source = Source::Layer(position);
        LayerView {
            name: &layer.name,
            op: &layer.op,
            is_output: self.graph.output() == source,
            shape: self.graph.shape(source),
            graph: &self.graph,
            position,
            parameters: &self.parameters[position],
        }
    }

    /// Hands every layer that the result depends on to `interpreter`, in topological order.
    ///
    /// # Errors
    /// The first error of the interpreter.
    pub fn walk<I: Interpreter<B>>(
        &self,
        interpreter: &mut I,
        x: I::Value,
    ) -> Result<I::Value, NetworkError> {
        self.walk_part(&self.graph.part(None, None)?, interpreter, x)
    }

    /// The same up to and with layer `until`; `x` is the input.
    ///
    /// # Errors
    /// When there is no such layer; the first error of the interpreter.
    pub fn walk_until<I: Interpreter<B>>(
        &self,
        until: &str,
        interpreter: &mut I,
        x: I::Value,
    ) -> Result<I::Value, NetworkError> {
        self.walk_part(&self.graph.part(None, Some(until))?, interpreter, x)
    }

    /// The same from behind layer `after`, whose output is `x`.
    ///
    /// # Errors
    /// When there is no such layer, or another value crosses the cut; the first error of the interpreter.
    pub fn walk_after<I: Interpreter<B>>(
        &self,
        after: &str,
        interpreter: &mut I,
        x: I::Value,
    ) -> Result<I::Value, NetworkError> {
        self.walk_part(&self.graph.part(Some(after), None)?, interpreter, x)
    }

    /// Hands the layers of a part to `interpreter`; a value is dropped behind the last layer that takes it.
    ///
    /// # Errors
    /// The first error of the interpreter.
    pub fn walk_part<I: Interpreter<B>>(
        &self,
        part: &Part,
        interpreter: &mut I,
        x: I::Value,
    ) -> Result<I::Value, NetworkError> {
        let mut uses: HashMap<Source, usize> = HashMap::new();
        for &position in &part.layers {
            for input in &self.graph.layers()[position].inputs {
                *uses.entry(*input).or_default() += 1;
            }
        }
        *uses.entry(part.end).or_default() += 1;
        let mut values = HashMap::from([(part.start, x)]);
        let mut take = |values: &mut HashMap<Source, I::Value>, source: Source| {
            let left = uses.entry(source).or_default();
            *left = left.saturating_sub(1);
            let value =
                if *left == 0 { values.remove(&source) } else { values.get(&source).cloned() };
            value.ok_or_else(|| {
                NetworkError::graph("a part lacks a layer that it depends on".into())
            })
        };
        for &position in &part.layers {
            let inputs = self.graph.layers()[position].inputs.iter();
            let inputs = inputs.map(|input| take(&mut values, *input)).collect::<Result<_, _>>()?;
            let value = interpreter.layer(self.view(position), inputs)?;
            values.insert(Source::Layer(position), value);
        }
        take(&mut values, part.end)
    }

    /// Inference on `images`: `[batch, channels, height, width]`, preprocessed.
    ///
    /// # Errors
    /// When the images are not of the shape that the network is for.
    pub fn forward(&self, images: Tensor<B, 4>) -> Result<Features<B>, NetworkError> {
        self.walk(&mut Eager::inference(), Features::Map(images))
    }

    /// Every variable, in the order of the layers.
    #[must_use]
    pub fn variables(&self) -> Vec<Variable> {
        let layers = self.graph.layers().iter().zip(&self.parameters);
        let all = layers.flat_map(|(layer, parameters)| {
            parameters.iter().map(|parameter| Variable {
                layer: layer.name.clone(),
                kind: layer.op.class(),
                spec: parameter.spec.clone(),
                id: parameter.id(),
            })
        });
        all.collect()
    }

    fn mapped(self, mut each: impl FnMut(&str, Parameter<B>) -> Parameter<B>) -> Self {
        let graph = self.graph;
        let layers = self.parameters.into_iter().enumerate().map(|(position, parameters)| {
            let name = &graph.layers()[position].name;
            parameters.into_iter().map(|parameter| each(name, parameter)).collect()
        });
        let parameters = layers.collect();
        Self { graph, parameters }
    }

    fn all(&self) -> impl Iterator<Item = &Parameter<B>> {
        self.parameters.iter().flatten()
    }
}

fn init_layer<B: Backend>(
    graph: &Graph,
    position: usize,
    seed: u64,
    device: &B::Device,
) -> Vec<Parameter<B>> {
    let name = &graph.layers()[position].name;
    let specs = graph.variables(position).into_iter();
    specs.map(|spec| Parameter::init(name, spec, seed, device)).collect()
}

type Vectors<B> = Vec<Param<Tensor<B, 1>>>;
type Matrices<B> = Vec<Param<Tensor<B, 2>>>;
type Kernels<B> = Vec<Param<Tensor<B, 4>>>;

impl<B: Backend> Module<B> for Network<B> {
    /// Vectors, matrices and kernels, each in the order of the layers.
    type Record = (Vectors<B>, Matrices<B>, Kernels<B>);

    fn collect_devices(&self, devices: Devices<B>) -> Devices<B> {
        self.all().fold(
            devices,
            |devices, parameter| ranked!(&parameter.value, param => param.collect_devices(devices)),
        )
    }

    fn fork(self, device: &B::Device) -> Self {
        self.mapped(|_, Parameter { spec, value }| Parameter {
            spec,
            value: reranked!(value, param => param.fork(device)),
        })
    }

    fn to_device(self, device: &B::Device) -> Self {
        self.mapped(|_, Parameter { spec, value }| Parameter {
            spec,
            value: reranked!(value, param => param.to_device(device)),
        })
    }

    fn visit<V: ModuleVisitor<B>>(&self, visitor: &mut V) {
        for (layer, parameters) in self.graph.layers().iter().zip(&self.parameters) {
            visitor.enter_module(&layer.name, layer.op.class());
            for Parameter { spec, value } in parameters {
                visitor.enter_module(spec.name, layer.op.class());
                ranked!(value, param => param.visit(visitor));
                visitor.exit_module(spec.name, layer.op.class());
            }
            visitor.exit_module(&layer.name, layer.op.class());
        }
    }

    fn map<M: ModuleMapper<B>>(self, mapper: &mut M) -> Self {
        let graph = self.graph;
        let layers = self.parameters.into_iter().enumerate().map(|(position, parameters)| {
            let layer = &graph.layers()[position];
            mapper.enter_module(&layer.name, layer.op.class());
            let mapped = parameters.into_iter().map(|Parameter { spec, value }| {
                mapper.enter_module(spec.name, layer.op.class());
                let value = reranked!(value, param => Module::map(param, mapper));
                mapper.exit_module(spec.name, layer.op.class());
                Parameter { spec, value }
            });
            let mapped = mapped.collect();
            mapper.exit_module(&layer.name, layer.op.class());
            mapped
        });
        let parameters = layers.collect();
        Self { graph, parameters }
    }

    fn load_record(self, (vectors, matrices, kernels): Self::Record) -> Self {
        // As Burn's own modules do with a record of another shape.
        const WRONG: &str = "the record is of a network with other layers";
        let (mut vectors, mut matrices, mut kernels) =
            (vectors.into_iter(), matrices.into_iter(), kernels.into_iter());
        self.mapped(|_, Parameter { spec, value }| {
            let value = match value {
                Ranked::Vector(param) => {
                    Ranked::Vector(param.load_record(vectors.next().expect(WRONG)))
                }
                Ranked::Matrix(param) => {
                    Ranked::Matrix(param.load_record(matrices.next().expect(WRONG)))
                }
                Ranked::Kernel(param) => {
                    Ranked::Kernel(param.load_record(kernels.next().expect(WRONG)))
                }
            };
            Parameter { spec, value }
        })
    }

    fn into_record(self) -> Self::Record {
        let (mut vectors, mut matrices, mut kernels) = (Vec::new(), Vec::new(), Vec::new());
        for parameter in self.parameters.into_iter().flatten() {
            match parameter.value {
                Ranked::Vector(param) => vectors.push(param.into_record()),
                Ranked::Matrix(param) => matrices.push(param.into_record()),
                Ranked::Kernel(param) => kernels.push(param.into_record()),
            }
        }
        (vectors, matrices, kernels)
    }
}

impl<B: AutodiffBackend> AutodiffModule<B> for Network<B> {
    type InnerModule = Network<B::InnerBackend>;

    fn valid(&self) -> Self::InnerModule {
        let valid = |Parameter { spec, value }: &Parameter<B>| Parameter {
            spec: spec.clone(),
            value: reranked!(value, param => param.valid()),
        };
        let layers = self.parameters.iter();
        let parameters = layers.map(|layer| layer.iter().map(valid).collect()).collect();
        Network { graph: self.graph.clone(), parameters }
    }

    fn from_inner(module: Self::InnerModule) -> Self {
        let wrap = |Parameter { spec, value }| Parameter {
            spec,
            value: reranked!(value, param => AutodiffModule::from_inner(param)),
        };
        let layers = module.parameters.into_iter();
        let parameters = layers.map(|layer| layer.into_iter().map(wrap).collect()).collect();
        Self { graph: module.graph, parameters }
    }
}

impl<B: AutodiffBackend> HasAutodiffModule<B> for Network<B::InnerBackend> {
    type TrainModule = Network<B>;
}

impl<B: Backend> ModuleDisplayDefault for Network<B> {
    fn content(&self, content: Content) -> Option<Content> {
        let layers = self.graph.layers().iter().filter(|layer| !layer.name.is_empty());
        let content = layers.fold(content, |content, layer| {
            content.add_debug_attribute(&layer.name, &layer.op.class())
        });
        content.optional()
    }

    fn num_params(&self) -> usize {
        Module::num_params(self)
    }
}

impl<B: Backend> ModuleDisplay for Network<B> {}

impl<B: Backend> std::fmt::Display for Network<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.format(Default::default()))
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;

    use super::*;
    use crate::MobileNetV2Config;

    /// The path of each parameter, as Burn's stores see it.
    #[derive(Default)]
    struct Paths {
        open: Vec<String>,
        found: Vec<String>,
    }

    impl ModuleVisitor<Flex> for Paths {
        fn visit_float<const D: usize>(&mut self, _: &Param<Tensor<Flex, D>>) {
            self.found.push(self.open.join("."));
        }

        fn enter_module(&mut self, name: &str, _: &str) {
            self.open.push(name.to_owned());
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.open.pop();
        }
    }

    #[test]
    fn burn_s_stores_see_layer_names() {
        let network = MobileNetV2Config::new().with_size(32).init::<Flex>(&Default::default());
        let network: Network<Flex> = network.expect("valid").into();
        let mut paths = Paths::default();
        network.visit(&mut paths);
        let expected = network.variables().into_iter().map(|v| v.path().replace('/', "."));
        assert_eq!(paths.found, expected.collect::<Vec<_>>());
        assert_eq!(paths.found[0], "Conv1.kernel");
        // A record goes back where it came from.
        let before = crate::read(&network);
        let record = network.clone().into_record();
        let again = crate::read(&network.load_record(record));
        assert_eq!(before.len(), again.len());
    }
}
