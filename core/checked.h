// Products of sizes that come from a user or a file: beyond 64 bits they would wrap to something small.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>

namespace hyperattn {

/// The product, or nothing where it, or the product of the first of them, is beyond int64.
template <class Sizes>
[[nodiscard]] std::optional<int64_t> checked_product_of(const Sizes& sizes) {
  int64_t product = 1;
  for (const int64_t size : sizes)
    if (__builtin_mul_overflow(product, size, &product)) return {};
  return product;
}

[[nodiscard]] inline std::optional<int64_t> checked_product(std::initializer_list<int64_t> sizes) {
  return checked_product_of(sizes);
}

}  // namespace hyperattn
