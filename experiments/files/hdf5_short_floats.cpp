// Floats of 16 bits: bfloat16, which the library knows as bits at most, and tensors written in a given type.
#include <fmt/core.h>

#include <bit>
#include <cmath>

#include "experiments/files/hdf5_internal.h"

namespace hyperattn {

using namespace hdf5;

namespace {

/// Rounded to the nearest, ties to even; infinity where that is beyond the type.
uint16_t to_bfloat16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0x7FFFU + (bits >> 16U & 1U)) >> 16U);
}

/// The same. By hand, because the library's own conversion halves numbers that are subnormal as float16.
uint16_t to_float16(float value) {
  constexpr float kSmallestNormal = 0x1p-14F;
  constexpr float kBeyond = 65520;  // half-way from the largest to what would follow
  const auto sign = static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16U & 0x8000U);
  const float size = std::abs(value);
  if (size >= kBeyond) return sign | 0x7C00U;
  if (size < kSmallestNormal)
    return static_cast<uint16_t>(sign | static_cast<unsigned>(std::nearbyint(size * 0x1p24F)));
  const auto bits = std::bit_cast<uint32_t>(size);
  const uint32_t rounded = (bits + 0xFFFU + (bits >> 13U & 1U)) >> 13U;
  return static_cast<uint16_t>(sign | (rounded - (uint32_t{127 - 15} << 10U)));
}

Buffer<uint16_t> to_bits(TensorView<const float> tensor, const std::string& name, const std::string& type) {
  const bool half = type == "float16";
  const uint16_t infinity = half ? 0x7C00 : 0x7F80;
  Buffer<uint16_t> bits(tensor.shape.size());
  for (int64_t i = 0; i < bits.size(); ++i) {
    const float value = tensor.data[i];
    bits[i] = half ? to_float16(value) : to_bfloat16(value);
    if ((bits[i] & 0x7FFFU) == infinity)
      fail_usage(fmt::format("'{}' holds {}, which is beyond {}, the type of the input; write it as float32",
                             name, std::to_string(value), type));
  }
  return bits;
}

Id file_type_like(const DatasetInfo& like) {
  if (like.form == ElementForm::integer_bits) return {H5Tcopy(H5T_STD_U16LE), H5Tclose};
  if (like.form == ElementForm::number)
    return like.element_name == "float16" ? half_type(H5T_ORDER_LE) : bfloat16_type(H5T_ORDER_LE);
  Id type(H5Tcreate(H5T_OPAQUE, 2), H5Tclose);
  H5Tset_tag(type.get(), "");
  return type;
}

}  // namespace

Buffer<uint16_t> Hdf5File::Impl::read_bits(hid_t dataset, hid_t memory_space, hid_t file_space, int64_t count,
                                           const std::string& name) const {
  const Id type = need_id(H5Dget_type(dataset), H5Tclose, name, "has an unreadable type");
  Buffer<uint16_t> bits(count);
  // In the file's own type there is no conversion.
  need(H5Dread(dataset, type.get(), memory_space, file_space, H5P_DEFAULT, bits.data()), name,
       "can't be read");
  const bool swapped = H5Tget_class(type.get()) != H5T_OPAQUE && H5Tget_order(type.get()) == H5T_ORDER_BE;
  if (swapped)
    for (uint16_t& value : bits) value = static_cast<uint16_t>(value << 8U | value >> 8U);
  return bits;
}

void Hdf5File::write_tensor_like(const std::string& dataset, TensorView<const float> tensor,
                                 const DatasetInfo& like) {
  const TensorShape& s = tensor.shape;
  const std::vector<int64_t> shape = {s.batch, s.heads, s.rows, s.dim};
  if (like.element_name == "float64")
    return impl_->write(dataset, shape, H5T_IEEE_F64LE, H5T_NATIVE_FLOAT, tensor.data);
  if (like.element_name != "float16" && like.element_name != "bfloat16") return write_tensor(dataset, tensor);
  const Buffer<uint16_t> bits = to_bits(tensor, dataset, like.element_name);
  const Id type = file_type_like(like);
  impl_->write(dataset, shape, type.get(), type.get(), bits.data());
  if (like.form == ElementForm::integer_bits) write_attribute(dataset, "dtype", std::string("bfloat16"));
}

}  // namespace hyperattn
