/**
 * Natural logarithm and exponential of doubles from + − × ÷ and bit access alone.
 *
 * `Math.log` and `Math.exp` may differ between JavaScript engines in the last bit, and a last bit may choose
 * another token. IEEE 754 fixes the four operations and JavaScript forbids fusing them, so these give the same
 * bits everywhere. Both are within one unit in the last place.
 *
 * Method and coefficients are those of fdlibm's e_log.c and e_exp.c:
 * Copyright (C) 1993 by Sun Microsystems, Inc. All rights reserved. Developed at SunPro, a Sun Microsystems,
 * Inc. business. Permission to use, copy, modify, and distribute this software is freely granted, provided that
 * this notice is preserved.
 */

const LN2_HIGH = 6.9314718036912381649e-1
const LN2_LOW = 1.90821492927058770002e-10
const INVERSE_LN2 = Math.LOG2E
const TWO_54 = 18014398509481984
const TWO_MINUS_1000 = 2 ** -1000

const L1 = 6.66666666666673513e-1
const L2 = 3.999999999940941908e-1
const L3 = 2.857142874366239149e-1
const L4 = 2.222219843214978396e-1
const L5 = 1.818357216161805012e-1
const L6 = 1.531383769920937332e-1
const L7 = 1.479819860511658591e-1

const P1 = 1.66666666666666019037e-1
const P2 = -2.77777777770155933842e-3
const P3 = 6.61375632143793436117e-5
const P4 = -1.6533902205465251539e-6
const P5 = 4.13813679705723846039e-8

const double = new Float64Array(1)
const words = new Uint32Array(double.buffer)
/** Where the sign and exponent are: 1 on little-endian machines. */
const HIGH = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1 ? 1 : 0

/** 2^k for k in −1022..1023, exact. */
const POWERS = (() => {
  const powers = new Float64Array(2046)
  for (let k = -1022; k <= 1023; k++) {
    words[1 - HIGH] = 0
    words[HIGH] = (k + 1023) << 20
    powers[k + 1022] = double[0] as number
  }
  return powers
})()

/** Natural logarithm: −∞ of 0, NaN of negative numbers, as `Math.log`. */
export function ln(value: number): number {
  if (!(value > 0)) return value === 0 ? -Infinity : Number.NaN
  if (value === Infinity) return Infinity
  let k = 0
  let x = value
  double[0] = x
  let high = words[HIGH] as number
  if (high < 0x00100000) {
    k = -54
    x *= TWO_54
    double[0] = x
    high = words[HIGH] as number
  }
  k += (high >>> 20) - 1023
  high &= 0x000fffff
  // Brings the significand into [√½, √2).
  const carry = (high + 0x95f64) & 0x100000
  words[HIGH] = high | (carry ^ 0x3ff00000)
  k += carry >>> 20
  const f = double[0] - 1
  if ((0x000fffff & (2 + high)) < 3) {
    if (f === 0) return k === 0 ? 0 : k * LN2_HIGH + k * LN2_LOW
    const r = f * f * (0.5 - 0.3333333333333333 * f)
    return k === 0 ? f - r : k * LN2_HIGH - (r - k * LN2_LOW - f)
  }
  const s = f / (2 + f)
  const z = s * s
  const w = z * z
  const t1 = w * (L2 + w * (L4 + w * L6))
  const t2 = z * (L1 + w * (L3 + w * (L5 + w * L7)))
  const r = t2 + t1
  if (((high - 0x6147a) | (0x6b851 - high)) > 0) {
    const half = 0.5 * f * f
    if (k === 0) return f - (half - s * (half + r))
    return k * LN2_HIGH - (half - (s * (half + r) + k * LN2_LOW) - f)
  }
  if (k === 0) return f - s * (f - r)
  return k * LN2_HIGH - (s * (f - r) - k * LN2_LOW - f)
}

/** e to the power of `value`: 0 below −745.13, ∞ above 709.78, as `Math.exp`. */
export function exp(value: number): number {
  if (value !== value) return Number.NaN
  if (value > 709.782712893384) return Infinity
  if (value < -745.1332191019411) return 0
  const magnitude = value < 0 ? -value : value
  if (magnitude < 3.725290298461914e-9) return 1 + value
  let k = 0
  let high = value
  let low = 0
  let x = value
  if (magnitude > 0.34657359027997264) {
    k = Math.trunc(INVERSE_LN2 * value + (value < 0 ? -0.5 : 0.5))
    high = value - k * LN2_HIGH
    low = k * LN2_LOW
    x = high - low
  }
  const t = x * x
  const c = x - t * (P1 + t * (P2 + t * (P3 + t * (P4 + t * P5))))
  if (k === 0) return 1 - ((x * c) / (c - 2) - x)
  const y = 1 - (low - (x * c) / (2 - c) - high)
  if (k < -1021) return y * (POWERS[k + 1000 + 1022] as number) * TWO_MINUS_1000
  if (k === 1024) return y * 2 * (POWERS[1023 + 1022] as number)
  return y * (POWERS[k + 1022] as number)
}
