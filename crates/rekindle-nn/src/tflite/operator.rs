//! TensorFlow Lite's builtin operators that networks are written with, and their numbers in its schema
//! (`tensorflow/lite/schema/schema.fbs`, version 3).

/// What an operator ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fused {
    /// Nothing.
    #[default]
    None,
    /// `max(x, 0)`.
    Relu,
    /// `x` between -1 and 1.
    ReluN1To1,
    /// `min(max(x, 0), 6)`.
    Relu6,
}

/// How a window moves: kernel, step and distance of taps, down and right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moves {
    /// Whether zeros stand around maps as TensorFlow's `SAME` has them; else nothing does.
    pub same: bool,
    /// Height and width of the kernel.
    pub kernel: [i32; 2],
    /// Step, down and right.
    pub stride: [i32; 2],
    /// The distance of taps, down and right.
    pub dilation: [i32; 2],
}

/// An operator with its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(missing_docs, reason = "the names are TensorFlow Lite's")]
pub enum Operator {
    Abs,
    Add(Fused),
    AveragePool2d(Moves),
    Concatenation { axis: i32 },
    Conv2d { moves: Moves, is_grouped: bool, fused: Fused },
    DepthwiseConv2d { moves: Moves, multiplier: i32, fused: Fused },
    Dequantize,
    Div(Fused),
    Elu,
    Exp,
    FullyConnected { keeps_axes: bool, fused: Fused },
    Gelu { approximate: bool },
    Greater,
    HardSwish,
    LeakyRelu(f32),
    LocalResponseNormalization { radius: i32, bias: f32, alpha: f32, beta: f32 },
    Log,
    Logistic,
    LogSoftmax,
    MaxPool2d(Moves),
    Maximum,
    Mean { keeps_axes: bool },
    Minimum,
    Mul(Fused),
    Neg,
    Pad,
    PadV2,
    Pow,
    Prelu,
    Quantize,
    ReduceMax { keeps_axes: bool },
    Relu,
    Relu6,
    Reshape,
    ResizeBilinear,
    ResizeNearestNeighbor,
    Rsqrt,
    SelectV2,
    Slice,
    Softmax,
    Sqrt,
    SquaredDifference,
    StridedSlice,
    Sub(Fused),
    Sum { keeps_axes: bool },
    Tanh,
    Transpose,
}

/// A setting as the schema has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Field {
    /// A byte: an enumeration.
    Byte(i8),
    /// An integer.
    Int(i32),
    /// A flag.
    Bool(bool),
    /// A number.
    Float(f32),
}

/// An operator by the schema's numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Form {
    /// TensorFlow Lite's name of it.
    pub name: &'static str,
    /// `BuiltinOperator`.
    pub code: i32,
    /// The version that has all that is asked of it.
    pub version: i32,
    /// `BuiltinOptions`: which table its settings are; 0 for none.
    pub options: u8,
    /// The fields of that table by their numbers, every one of them.
    pub fields: Vec<(u16, Field)>,
}

impl Operator {
    /// The same with another end, where it can have one.
    #[must_use]
    pub fn ended(self, fused: Fused) -> Option<Self> {
        Some(match self {
            Self::Add(Fused::None) => Self::Add(fused),
            Self::Sub(Fused::None) => Self::Sub(fused),
            Self::Mul(Fused::None) => Self::Mul(fused),
            Self::Div(Fused::None) => Self::Div(fused),
            Self::Conv2d { moves, is_grouped, fused: Fused::None } => {
                Self::Conv2d { moves, is_grouped, fused }
            }
            Self::DepthwiseConv2d { moves, multiplier, fused: Fused::None } => {
                Self::DepthwiseConv2d { moves, multiplier, fused }
            }
            Self::FullyConnected { keeps_axes, fused: Fused::None } => {
                Self::FullyConnected { keeps_axes, fused }
            }
            _ => return None,
        })
    }

    /// Its name and numbers.
    #[must_use]
    pub fn form(self) -> Form {
        let form =
            |name, code, version, options, fields| Form { name, code, version, options, fields };
        let plain = |name, code, options| form(name, code, 1, options, Vec::new());
        let fused = |fused: Fused| {
            Field::Byte(match fused {
                Fused::None => 0,
                Fused::Relu => 1,
                Fused::ReluN1To1 => 2,
                Fused::Relu6 => 3,
            })
        };
        let padding = |moves: Moves| Field::Byte(i8::from(!moves.same));
        let keeps = |keeps: bool| vec![(0, Field::Bool(keeps))];
        let int = Field::Int;
        match self {
            Self::Abs => plain("ABS", 101, 78),
            Self::Add(end) => form("ADD", 0, 1, 11, vec![(0, fused(end))]),
            Self::AveragePool2d(moves) => form("AVERAGE_POOL_2D", 1, 1, 5, pool(moves)),
            Self::Concatenation { axis } => {
                form("CONCATENATION", 2, 1, 10, vec![(0, int(axis)), (1, fused(Fused::None))])
            }
            Self::Conv2d { moves, is_grouped, fused: end } => {
                let fields = vec![
                    (0, padding(moves)),
                    (1, int(moves.stride[1])),
                    (2, int(moves.stride[0])),
                    (3, fused(end)),
                    (4, int(moves.dilation[1])),
                    (5, int(moves.dilation[0])),
                ];
                form("CONV_2D", 3, if is_grouped { 6 } else { 1 }, 1, fields)
            }
            Self::DepthwiseConv2d { moves, multiplier, fused: end } => {
                let fields = vec![
                    (0, padding(moves)),
                    (1, int(moves.stride[1])),
                    (2, int(moves.stride[0])),
                    (3, int(multiplier)),
                    (4, fused(end)),
                    (5, int(moves.dilation[1])),
                    (6, int(moves.dilation[0])),
                ];
                let version = if moves.dilation == [1, 1] { 1 } else { 2 };
                form("DEPTHWISE_CONV_2D", 4, version, 2, fields)
            }
            // Version 3 has 16-bit floats.
            Self::Dequantize => form("DEQUANTIZE", 6, 3, 38, Vec::new()),
            Self::Div(end) => form("DIV", 42, 1, 29, vec![(0, fused(end))]),
            Self::Elu => plain("ELU", 111, 0),
            Self::Exp => plain("EXP", 47, 33),
            Self::FullyConnected { keeps_axes, fused: end } => {
                let fields =
                    vec![(0, fused(end)), (1, Field::Byte(0)), (2, Field::Bool(keeps_axes))];
                form("FULLY_CONNECTED", 9, if keeps_axes { 5 } else { 1 }, 8, fields)
            }
            Self::Gelu { approximate } => form("GELU", 150, 1, 116, keeps(approximate)),
            Self::Greater => plain("GREATER", 61, 44),
            Self::HardSwish => plain("HARD_SWISH", 117, 91),
            Self::LeakyRelu(slope) => form("LEAKY_RELU", 98, 1, 75, vec![(0, Field::Float(slope))]),
            Self::LocalResponseNormalization { radius, bias, alpha, beta } => {
                let number = Field::Float;
                let fields = vec![
                    (0, int(radius)),
                    (1, number(bias)),
                    (2, number(alpha)),
                    (3, number(beta)),
                ];
                form("LOCAL_RESPONSE_NORMALIZATION", 13, 1, 13, fields)
            }
            Self::Log => plain("LOG", 73, 0),
            Self::Logistic => plain("LOGISTIC", 14, 0),
            Self::LogSoftmax => plain("LOG_SOFTMAX", 50, 36),
            Self::MaxPool2d(moves) => form("MAX_POOL_2D", 17, 1, 5, pool(moves)),
            Self::Maximum => plain("MAXIMUM", 55, 39),
            Self::Mean { keeps_axes } => form("MEAN", 40, 1, 27, keeps(keeps_axes)),
            Self::Minimum => plain("MINIMUM", 57, 39),
            Self::Mul(end) => form("MUL", 18, 1, 21, vec![(0, fused(end))]),
            Self::Neg => plain("NEG", 59, 42),
            Self::Pad => plain("PAD", 34, 22),
            Self::PadV2 => plain("PADV2", 60, 43),
            Self::Pow => plain("POW", 78, 56),
            Self::Prelu => plain("PRELU", 54, 0),
            Self::Quantize => plain("QUANTIZE", 114, 89),
            Self::ReduceMax { keeps_axes } => form("REDUCE_MAX", 82, 1, 27, keeps(keeps_axes)),
            Self::Relu => plain("RELU", 19, 0),
            Self::Relu6 => plain("RELU6", 21, 0),
            Self::Reshape => plain("RESHAPE", 22, 17),
            // Version 3 has the centers of pixels.
            Self::ResizeBilinear => {
                let fields = vec![(2, Field::Bool(false)), (3, Field::Bool(true))];
                form("RESIZE_BILINEAR", 23, 3, 15, fields)
            }
            Self::ResizeNearestNeighbor => {
                let fields = vec![(0, Field::Bool(false)), (1, Field::Bool(true))];
                form("RESIZE_NEAREST_NEIGHBOR", 97, 3, 74, fields)
            }
            Self::Rsqrt => plain("RSQRT", 76, 0),
            Self::SelectV2 => plain("SELECT_V2", 123, 98),
            Self::Slice => plain("SLICE", 65, 48),
            Self::Softmax => form("SOFTMAX", 25, 1, 9, vec![(0, Field::Float(1.0))]),
            Self::Sqrt => plain("SQRT", 75, 0),
            Self::SquaredDifference => plain("SQUARED_DIFFERENCE", 99, 76),
            // All of the samples and of the channels.
            Self::StridedSlice => {
                let masks = [0b1001, 0b1001, 0, 0, 0];
                let fields = (0..5).zip(masks.map(int)).collect();
                form("STRIDED_SLICE", 45, 1, 32, fields)
            }
            Self::Sub(end) => form("SUB", 41, 1, 28, vec![(0, fused(end))]),
            Self::Sum { keeps_axes } => form("SUM", 74, 1, 27, keeps(keeps_axes)),
            Self::Tanh => plain("TANH", 28, 0),
            Self::Transpose => plain("TRANSPOSE", 39, 26),
        }
    }

    /// The same where it takes and makes integers of 8 bits, with a step for each output of a kernel.
    #[must_use]
    pub fn form_of_bytes(self) -> Form {
        let form = self.form();
        let version = match self {
            Self::Conv2d { .. } | Self::DepthwiseConv2d { .. } => 3,
            Self::FullyConnected { .. } => 12,
            Self::Add(_) | Self::Concatenation { .. } | Self::MaxPool2d(_) | Self::Pad => 2,
            _ => form.version,
        };
        Form { version, ..form }
    }
}

/// The settings of a pool.
fn pool(moves: Moves) -> Vec<(u16, Field)> {
    let int = Field::Int;
    vec![
        (0, Field::Byte(i8::from(!moves.same))),
        (1, int(moves.stride[1])),
        (2, int(moves.stride[0])),
        (3, int(moves.kernel[1])),
        (4, int(moves.kernel[0])),
        (5, Field::Byte(0)),
    ]
}
