// Reading datasets of an HDF5 file: tensors, arrays and texts.
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <limits>

#include "experiments/files/hdf5_internal.h"

namespace hyperattn {

using namespace hdf5;

namespace {

/// The rule for tensors, in words, or nothing if the shape keeps it.
std::string tensor_problem(const std::vector<int64_t>& shape) {
  if (shape.size() != 4)
    return "must have 4 dimensions (batch, heads, rows, dim), but has shape " + shape_text(shape);
  if (std::find(shape.begin(), shape.end(), 0) != shape.end())
    return "must have no dimension of size 0, but has shape " + shape_text(shape);
  return {};
}

}  // namespace

TensorShape Hdf5File::read_shape4(const std::string& dataset) const {
  const Id id = impl_->open_dataset(dataset);
  const DatasetInfo info = impl_->info_of(id.get(), dataset);
  impl_->check_numeric(info, dataset, false);
  if (const std::string problem = tensor_problem(info.shape); !problem.empty()) impl_->fail(dataset, problem);
  impl_->check_storage(id.get(), info, dataset);
  return {info.shape[0], info.shape[1], info.shape[2], info.shape[3]};
}

Tensor<float> Hdf5File::read_tensor(const std::string& dataset) const {
  return read_tensor(dataset, 0, read_shape4(dataset).rows);
}

Tensor<float> Hdf5File::read_tensor(const std::string& dataset, int64_t begin, int64_t end) const {
  TensorShape shape = read_shape4(dataset);
  if (begin < 0 || begin >= end || end > shape.rows)
    impl_->fail(dataset,
                fmt::format("has {} rows, so rows [{}, {}) can't be taken from it", shape.rows, begin, end));
  shape.rows = end - begin;
  require_memory(static_cast<double>(shape.size()) * sizeof(float),
                 fmt::format("the tensor '{}'", dataset).c_str());
  Tensor<float> tensor(shape);

  const Id id = impl_->open_dataset(dataset);
  const DatasetInfo info = impl_->info_of(id.get(), dataset);
  const Id file_space = impl_->need_id(H5Dget_space(id.get()), H5Sclose, dataset, "has an unreadable shape");
  const std::array<hsize_t, 4> start{0, 0, static_cast<hsize_t>(begin), 0};
  const std::array<hsize_t, 4> count{static_cast<hsize_t>(shape.batch), static_cast<hsize_t>(shape.heads),
                                     static_cast<hsize_t>(shape.rows), static_cast<hsize_t>(shape.dim)};
  impl_->need(
      H5Sselect_hyperslab(file_space.get(), H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr),
      dataset, "has rows that can't be selected");
  const Id memory_space(H5Screate_simple(4, count.data(), nullptr), H5Sclose);
  impl_->read_reals(id.get(), info, memory_space.get(), file_space.get(), shape.size(), tensor.data(),
                    dataset);
  return tensor;
}

DoubleArray Hdf5File::read_doubles(const std::string& dataset) const {
  const Id id = impl_->open_dataset(dataset);
  const DatasetInfo info = impl_->info_of(id.get(), dataset);
  impl_->check_numeric(info, dataset, false);
  impl_->check_storage(id.get(), info, dataset);
  require_memory(static_cast<double>(info.size()) * sizeof(double),
                 fmt::format("the dataset '{}'", dataset).c_str());
  DoubleArray array{info.shape, Buffer<double>(info.size())};
  if (info.size() > 0)
    impl_->read_reals(id.get(), info, H5S_ALL, H5S_ALL, info.size(), array.values.data(), dataset);
  return array;
}

IntegerArray Hdf5File::read_integers(const std::string& dataset) const {
  const Id id = impl_->open_dataset(dataset);
  const DatasetInfo info = impl_->info_of(id.get(), dataset);
  impl_->check_numeric(info, dataset, true);
  impl_->check_storage(id.get(), info, dataset);
  require_memory(static_cast<double>(info.size()) * sizeof(int64_t),
                 fmt::format("the dataset '{}'", dataset).c_str());
  IntegerArray array{info.shape, std::vector<int64_t>(static_cast<size_t>(info.size()))};
  if (!array.values.empty())
    impl_->need(H5Dread(id.get(), H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, array.values.data()),
                dataset, "can't be read");
  // The conversion clips what is beyond int64 to its largest value.
  const auto& v = array.values;
  if (info.element_name == "uint64" &&
      std::find(v.begin(), v.end(), std::numeric_limits<int64_t>::max()) != v.end())
    impl_->fail(dataset, "holds a value of 2^63 − 1 or more, which is not accepted");
  return array;
}

std::string Hdf5File::read_text(const std::string& dataset) const {
  const Id id = impl_->open_dataset(dataset);
  const DatasetInfo info = impl_->info_of(id.get(), dataset);
  if (info.element != ElementClass::text || info.size() != 1)
    impl_->fail(dataset, fmt::format("must hold one text, but holds {} of shape {}", info.element_name,
                                     shape_text(info.shape)));
  impl_->check_storage(id.get(), info, dataset);
  const Id type = impl_->need_id(H5Dget_type(id.get()), H5Tclose, dataset, "has an unreadable type");
  const Id space = impl_->need_id(H5Dget_space(id.get()), H5Sclose, dataset, "has an unreadable shape");
  return impl_->read_string(type.get(), space.get(), dataset, [&](hid_t memory_type, void* buffer) {
    return H5Dread(id.get(), memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, buffer);
  });
}

}  // namespace hyperattn
