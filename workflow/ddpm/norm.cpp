// dropout(swish(group norm(x + shift))) on a processor, and its gradients: what norm.py computes, in one pass over x.
// x lies in memory as [B, pixels, C] (channels_last), in float or bf16; everything else is float.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <vector>

namespace {

const long BLOCK = 64;  // channels at a time, or more, so that an image's stay in the cache
const long VECTOR = 16;
const long ROWS = 64;  // pixels whose sums are float; sums of these sums are double

struct bf16 {
  uint16_t bits;
};

template <class To, class From>
inline To bits_as(From from) {
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

inline float load(float x) { return x; }
inline float load(bf16 x) { return bits_as<float>(uint32_t(x.bits) << 16); }

inline void store(float *to, float x) { *to = x; }
inline void store(bf16 *to, float x) {  // to the nearest, a tie to even; NaN stays NaN
  uint32_t bits = bits_as<uint32_t>(x);
  uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  to->bits = x == x ? rounded : 0x7fc0;
}

// e^x to about its last bit: 2^n e^r with |r| <= ln 2 / 2, and Taylor's series of e^r.
inline float exponential(float x) {
  x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;  // NaN stays NaN
  float n = __builtin_rintf(x * 1.44269504f);
  float r = x - n * 0.693359375f + n * 2.12194440e-4f;
  float e = 1.0f / 720;
  for (float c : {1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) e = e * r + c;
  return e * bits_as<float>(uint32_t(int32_t(n) + 127) << 23);
}

inline float sigmoid(float x) { return 1 / (1 + exponential(-x)); }

// C. Wellons' lowbias32, as `scramble_` of norm.py.
inline uint32_t scramble(uint32_t x) {
  x = (x ^ (x >> 16)) * 0x7feb352d;
  x = (x ^ (x >> 15)) * 0x846ca68b;
  return x ^ (x >> 16);
}

struct Call {
  long batch, pixels, channels, groups;
  const float *shift, *weight, *bias;  // shift [B, C], or null
  float eps;
  int swish;
  const int32_t *seeds;  // of the dropout, [B], or null
  int32_t threshold;     // an element stays if its hash is not below
  float scale;           // of what stays
  int threads;

  long per_group() const { return channels / groups; }
  long start(long image, long first) const { return image * pixels * channels + first; }
  float shift_of(long image, long channel) const { return shift ? shift[image * channels + channel] : 0; }
};

// One image's channels first .. first + n - 1: x^ = x * rstd + at, and z = x * factor + offset behind weight and bias.
struct Block {
  long image, first, n;
  std::vector<float> rstd, at, factor, offset;

  Block(const Call &c, long image, long first, long n, const float *means, const float *rstds)
      : image(image), first(first), n(n), rstd(n), at(n), factor(n), offset(n) {
    for (long i = 0; i < n; i++) {
      long group = image * c.groups + (first + i) / c.per_group();
      rstd[i] = rstds[group];
      at[i] = (c.shift_of(image, first + i) - means[group]) * rstd[i];
      factor[i] = c.weight[first + i] * rstd[i];
      offset[i] = c.weight[first + i] * at[i] + c.bias[first + i];
    }
  }
};

// The mask of one image's dropout, by the number of the element in [C, pixels].
struct Mask {
  uint32_t seed, pixels, first;
  int32_t threshold;
  float scale;

  Mask(const Call &c, const Block &b)
      : seed(c.seeds ? c.seeds[b.image] : 0),
        pixels(c.pixels),
        first(b.first * c.pixels),
        threshold(c.threshold),
        scale(c.scale) {}

  float operator()(uint32_t pixel, uint32_t channel) const {
    uint32_t hash = scramble(scramble(first + channel * pixels + pixel) ^ seed);
    return int32_t(hash) >= threshold ? scale : 0.0f;
  }
};

// work(image, first channel, number of channels) of whole groups, for all of them.
template <class Work>
void each_block(const Call &c, Work work) {
  long unit = std::lcm(c.per_group(), VECTOR), block = (BLOCK + unit - 1) / unit * unit;
  long blocks = (c.channels + block - 1) / block;
#pragma omp parallel for num_threads(c.threads) schedule(static)
  for (long k = 0; k < c.batch * blocks; k++) {
    long first = k % blocks * block;
    work(k / blocks, first, std::min(block, c.channels - first));
  }
}

// Mean and 1 / standard deviation of a block's groups, from those of its channels, which count from their first pixel.
template <class T>
void moments(const Call &c, const T *x, long image, long first, long n, float *means, float *rstds) {
  const T *rows = x + c.start(image, first);
  std::vector<float> origin(n), sum(n), squares(n);
  std::vector<double> mean(n), variance(n);
  for (long i = 0; i < n; i++) origin[i] = load(rows[i]);
  float *o = origin.data(), *s = sum.data(), *q = squares.data();
  for (long from = 0; from < c.pixels; from += ROWS) {
    std::fill(sum.begin(), sum.end(), 0);
    std::fill(squares.begin(), squares.end(), 0);
    for (long p = from; p < std::min(from + ROWS, c.pixels); p++) {
      const T *row = rows + p * c.channels;
#pragma omp simd
      for (int i = 0; i < n; i++) {
        float d = load(row[i]) - o[i];
        s[i] += d;
        q[i] += d * d;
      }
    }
    for (long i = 0; i < n; i++) mean[i] += sum[i], variance[i] += squares[i];
  }
  for (long i = 0; i < n; i++) {
    mean[i] /= c.pixels;
    variance[i] = variance[i] / c.pixels - mean[i] * mean[i];
    mean[i] += double(origin[i]) + c.shift_of(image, first + i);
  }
  for (long from = 0; from < n; from += c.per_group()) {
    double total = 0, spread = 0;
    for (long i = from; i < from + c.per_group(); i++) total += mean[i];
    total /= c.per_group();
    for (long i = from; i < from + c.per_group(); i++) spread += variance[i] + (mean[i] - total) * (mean[i] - total);
    long group = image * c.groups + (first + from) / c.per_group();
    means[group] = total;
    rstds[group] = 1 / __builtin_sqrt(spread / c.per_group() + c.eps);
  }
}

template <class T, bool swish, bool dropout>
void write(const Call &c, const T *x, const Block &b, T *y) {
  const float *factor = b.factor.data(), *offset = b.offset.data();
  const Mask mask(c, b);
  const int n = b.n;
  for (long p = 0; p < c.pixels; p++) {
    const T *row = x + c.start(b.image, b.first) + p * c.channels;
    T *out = y + c.start(b.image, b.first) + p * c.channels;
#pragma omp simd
    for (int i = 0; i < n; i++) {
      float z = load(row[i]) * factor[i] + offset[i];
      if (swish) z *= sigmoid(z);
      if (dropout) z *= mask(p, i);
      store(&out[i], z);
    }
  }
}

template <class T>
void forward(const Call &c, const T *x, T *y, float *means, float *rstds) {
  auto write_block = c.seeds ? (c.swish ? write<T, true, true> : write<T, false, true>)
                             : (c.swish ? write<T, true, false> : write<T, false, false>);
  each_block(c, [&](long image, long first, long n) {
    moments(c, x, image, first, n, means, rstds);
    write_block(c, x, Block(c, image, first, n, means, rstds), y);
  });
}

// dz [pixels, n], the gradient of a block's z, and per channel the sums of dz and of dz x^.
template <class T, bool swish, bool dropout>
void differentiate(const Call &c, const T *x, const T *dy, const Block &b, float *dz, double *sum, double *product) {
  const float *factor = b.factor.data(), *offset = b.offset.data(), *rstd = b.rstd.data(), *at = b.at.data();
  const Mask mask(c, b);
  const int n = b.n;
  std::vector<float> sums(n), products(n);
  float *s = sums.data(), *q = products.data();
  for (long from = 0; from < c.pixels; from += ROWS) {
    std::fill(sums.begin(), sums.end(), 0);
    std::fill(products.begin(), products.end(), 0);
    for (long p = from; p < std::min(from + ROWS, c.pixels); p++) {
      const T *row = x + c.start(b.image, b.first) + p * c.channels;
      const T *given = dy + c.start(b.image, b.first) + p * c.channels;
      float *out = dz + p * n;
#pragma omp simd
      for (int i = 0; i < n; i++) {
        float value = load(row[i]), g = load(given[i]);
        if (dropout) g *= mask(p, i);
        if (swish) {
          float z = value * factor[i] + offset[i], t = sigmoid(z);
          g *= t * (1 + z * (1 - t));
        }
        out[i] = g;
        s[i] += g;
        q[i] += g * (value * rstd[i] + at[i]);
      }
    }
    for (long i = 0; i < n; i++) sum[i] += sums[i], product[i] += products[i];
  }
}

template <class T>
void backward(const Call &c, const T *x, const T *dy, const float *means, const float *rstds, T *dx, float *dweight,
              float *dbias, float *dshift) {
  auto differentiate_block = c.seeds ? (c.swish ? differentiate<T, true, true> : differentiate<T, false, true>)
                                     : (c.swish ? differentiate<T, true, false> : differentiate<T, false, false>);
  each_block(c, [&](long image, long first, long n) {
    const Block b(c, image, first, n, means, rstds);
    std::vector<float> dz(c.pixels * n), by_x(n), constant(n), total(n);
    std::vector<double> sum(n), product(n);
    differentiate_block(c, x, dy, b, dz.data(), sum.data(), product.data());
    // dx = rstd (w dz - mean of w dz - x^ mean of w dz x^), the means over a group, which is x's part and a constant.
    for (long from = 0; from < n; from += c.per_group()) {
      double mean = 0, along = 0, count = double(c.per_group()) * c.pixels;
      for (long i = from; i < from + c.per_group(); i++) {
        mean += c.weight[first + i] * sum[i] / count;
        along += c.weight[first + i] * product[i] / count;
      }
      for (long i = from; i < from + c.per_group(); i++) {
        by_x[i] = -b.rstd[i] * b.rstd[i] * along;
        constant[i] = -b.rstd[i] * (mean + b.at[i] * along);
      }
    }
    const float *factor = b.factor.data(), *f = by_x.data(), *k = constant.data();
    float *t = total.data();
    for (long p = 0; p < c.pixels; p++) {
      const T *row = x + c.start(image, first) + p * c.channels;
      T *out = dx + c.start(image, first) + p * c.channels;
      const float *g = dz.data() + p * n;
#pragma omp simd
      for (int i = 0; i < n; i++) {
        float d = g[i] * factor[i] + load(row[i]) * f[i] + k[i];
        t[i] += d;
        store(&out[i], d);
      }
    }
    for (long i = 0; i < n; i++) {
      long at = image * c.channels + first + i;
      dweight[at] = product[i];
      dbias[at] = sum[i];
      if (dshift) dshift[at] = total[i];
    }
  });
}

}  // namespace

#define EXPORT(T, name)                                                                                              \
  extern "C" void forward_##name(const Call *c, const T *x, T *y, float *means, float *rstds) {                      \
    forward(*c, x, y, means, rstds);                                                                                 \
  }                                                                                                                  \
  extern "C" void backward_##name(const Call *c, const T *x, const T *dy, const float *means, const float *rstds,    \
                                  T *dx, float *dweight, float *dbias, float *dshift) {                              \
    backward(*c, x, dy, means, rstds, dx, dweight, dbias, dshift);                                                   \
  }
EXPORT(float, float32)
EXPORT(bf16, bfloat16)
