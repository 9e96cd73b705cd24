// What a linear layer's results go through, chosen by the host's const ACTIVATION: 0 nothing, 1 SiLU, 2 GELU (exact, by erf),
// 3 GELU (tanh form). exp's argument stays below 88, the largest that keeps e^x finite: WGSL promises nothing beyond.
// Source: Shazeer 2020 (arXiv 2002.05202); Hendrycks & Gimpel 2016 (arXiv 1606.08415); Abramowitz & Stegun 7.1.26

/// 1 - erf(x) for x >= 0, absolute error below 1.5e-7 plus that of exp.
fn erfc_positive(x: f32) -> f32 {
  let t = 1.0 / fma(0.3275911, x, 1.0);
  let polynomial =
    fma(fma(fma(fma(1.061405429, t, -1.453152027), t, 1.421413741), t, -0.284496736), t, 0.254829592) * t;
  return polynomial * exp(-min(x * x, 88.0));
}

fn activate(x: f32) -> f32 {
  if (ACTIVATION == 1u) {
    return x / (1.0 + exp(min(-x, 88.0)));
  }
  if (ACTIVATION == 2u) {
    let tail = 0.5 * erfc_positive(abs(x) * 0.70710678118654752);
    return x * select(tail, 1.0 - tail, x >= 0.0);
  }
  if (ACTIVATION == 3u) {
    // 0.5 * (1 + tanh(u)) = 1 / (1 + e^(-2u)).
    let u = 0.79788456080286536 * fma(0.044715 * x * x, x, x);
    return x / (1.0 + exp(min(-2.0 * u, 88.0)));
  }
  return x;
}
