//! Plain loops, compiled for each instruction set.

/// Compiles plain loops for each instruction set and chooses one when they run. Loops call `fma::<FUSED>`, which is
/// the fused operation where the set has one.
macro_rules! vectorized {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments, reason = "the loops of one kernel")]
        $vis fn $name($($arg: $type),*) {
            #[inline(always)]
            #[allow(clippy::too_many_arguments, reason = "the loops of one kernel")]
            #[allow(clippy::needless_range_loop, reason = "lanes of several arrays at once")]
            #[allow(clippy::extra_unused_type_parameters, reason = "not all loops multiply and add")]
            fn run_loops<const FUSED: bool>($($arg: $type),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f")]
                #[allow(clippy::too_many_arguments, reason = "the loops of one kernel")]
                fn avx512($($arg: $type),*) { run_loops::<true>($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments, reason = "the loops of one kernel")]
                fn avx2($($arg: $type),*) { run_loops::<true>($($arg),*) }
                if is_x86_feature_detected!("avx512f") {
                    // SAFETY: the instruction set has just been found.
                    return unsafe { avx512($($arg),*) };
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    // SAFETY: the instruction set has just been found.
                    return unsafe { avx2($($arg),*) };
                }
            }
            run_loops::<{ cfg!(target_arch = "aarch64") }>($($arg),*)
        }
    };
}
pub(crate) use vectorized;

/// `a * b + c`; the fused operation is a slow function where the instruction set has none.
#[inline(always)]
pub(crate) fn fma<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}
