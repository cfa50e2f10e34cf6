#include "algorithms/engines/cuda/device_problem.h"

#include <sys/mman.h>

#include <algorithm>

#include "core/error.h"

namespace hyperattn::cuda {
namespace {

AttentionProblem with_views(AttentionProblem problem, const HostCopies& copies) {
  problem.query = copies.query.view();
  problem.key = copies.key.view();
  problem.value = copies.value.view();
  return problem;
}

}  // namespace

DeviceRows DeviceRows::rounded(Precision precision, const void* rows, Precision type, int64_t count,
                               int64_t width, const char* what) {
  DeviceRows target(precision, count, width, what);
  RoundArguments arguments;
  arguments.rows = rows;
  arguments.type = type;
  arguments.rounded = target.data();
  arguments.count = count;
  arguments.width = static_cast<int32_t>(width);
  check(launch_round(precision, arguments, Device::current().stream()), "rounding inputs");
  return target;
}

DeviceRows DeviceRows::rounded(Precision precision, const float* rows, int64_t count, int64_t width,
                               const char* what) {
  const DeviceArray<float> raw(rows, count * width, what);
  return rounded(precision, raw.data(), Precision::fp32, count, width, what);
}

const void* DeviceInput::rounded() const {
  const int64_t width = tensor_.shape.dim;
  if (given_.data != nullptr && given_.type == precision_ && padded_width(width) == width) return given_.data;
  if (rounded_.empty())
    rounded_ = given_.data != nullptr
                   ? DeviceRows::rounded(precision_, given_.data, given_.type, rows(), width, what_)
                   : DeviceRows::rounded(precision_, tensor_.data, rows(), width, what_);
  return rounded_.data();
}

const float* DeviceInput::wide() const {
  if (precision_ == Precision::fp32) return static_cast<const float*>(rounded());
  if (wide_.size() == 0) {
    const int64_t elements = rows() * padded_width(tensor_.shape.dim);
    wide_ = DeviceArray<float>(elements, what_);
    check(launch_widen(precision_, rounded(), wide_.data(), elements, Device::current().stream()),
          "widening inputs");
  }
  return wide_.data();
}

HostCopy::HostCopy(const DeviceTensor& source) : source_(source) {
  const auto bytes = static_cast<size_t>(source.shape.size()) * sizeof(float);
  void* pages =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (pages == MAP_FAILED)
    fail_environment("engine 'cuda': there are no addresses for " + std::to_string(bytes) + " bytes");
  data_ = static_cast<float*>(pages);
}

HostCopy::~HostCopy() {
  static_cast<void>(munmap(data_, static_cast<size_t>(source_.shape.size()) * sizeof(float)));
}

void HostCopy::fill() const {
  const TensorShape& shape = source_.shape;
  const DeviceRows wide = DeviceRows::rounded(Precision::fp32, source_.data, source_.type,
                                              shape.size() / shape.dim, shape.dim, "host copies");
  download_rows(static_cast<const float*>(wide.data()), shape, data_);
}

DeviceProblem::DeviceProblem(std::unique_ptr<HostCopies> copies, AttentionProblem& problem,
                             const DeviceInputs& inputs, const Engine& engine, Precision precision)
    : BoundProblem(with_views(problem, *copies), engine),
      copies_(std::move(copies)),
      precision_(precision),
      stream_(inputs.stream),
      query_(inputs.query, precision, "queries"),
      key_(inputs.key, precision, "keys"),
      value_(inputs.value, precision, "values") {}

const AttentionProblem& DeviceProblem::problem() const {
  if (copies_)
    std::call_once(copies_->filled, [&] {
      const StreamScope scope(stream_);
      for (const HostCopy* copy : {&copies_->query, &copies_->key, &copies_->value}) copy->fill();
    });
  return shapes();
}

int64_t row_in(TensorView<const float> tensor, MatrixView<const float> rows) {
  const int64_t width = tensor.shape.dim;
  if (rows.cols != width || rows.stride != width || rows.data < tensor.data) return -1;
  const int64_t offset = rows.data - tensor.data;
  if (offset + rows.rows * width > tensor.shape.size() || offset % width != 0) return -1;
  return offset / width;
}

void download_rows(const float* rows, const TensorShape& shape, float* target) {
  const int64_t stride = padded_width(shape.dim);
  const int64_t count = shape.size() / shape.dim;
  const auto bytes = count * stride * static_cast<int64_t>(sizeof(float));
  if (stride == shape.dim) return detail::download(target, rows, bytes);
  Buffer<float> padded(count * stride);
  detail::download(padded.data(), rows, bytes);
  for (int64_t row = 0; row < count; ++row)
    std::copy_n(padded.data() + row * stride, shape.dim, target + row * shape.dim);
}

Tensor<float> unpadded(const DeviceArray<float>& rows, const TensorShape& shape) {
  Tensor<float> result(shape);
  download_rows(rows.data(), shape, result.data());
  return result;
}

}  // namespace hyperattn::cuda
