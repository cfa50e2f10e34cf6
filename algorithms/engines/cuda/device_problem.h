// A problem whose inputs lie on the card.
#pragma once

#include <memory>
#include <mutex>

#include "algorithms/bound_problem.h"
#include "algorithms/engines/cuda/device.h"
#include "algorithms/engines/cuda/device_tensor.h"
#include "algorithms/engines/cuda/kernels.h"
#include "algorithms/plan.h"

namespace hyperattn::cuda {

/// Rows on the card in some precision, of padded width.
class DeviceRows {
 public:
  DeviceRows() = default;
  DeviceRows(Precision precision, int64_t rows, int64_t width, const char* what)
      : bytes_(rows * padded_width(width) * bytes_of(precision), what) {}
  /// Host rows (count × width), rounded.
  static DeviceRows rounded(Precision precision, const float* rows, int64_t count, int64_t width,
                            const char* what);
  /// The same of rows on the card in some type.
  static DeviceRows rounded(Precision precision, const void* rows, Precision type, int64_t count,
                            int64_t width, const char* what);

  [[nodiscard]] void* data() const { return bytes_.data(); }
  [[nodiscard]] bool empty() const { return bytes_.size() == 0; }
  [[nodiscard]] static int64_t bytes_of(Precision precision) { return precision == Precision::fp32 ? 4 : 2; }

 private:
  DeviceArray<unsigned char> bytes_;
};

/// Copies fp32 rows of padded width to the host, without the padding.
void download_rows(const float* rows, const TensorShape& shape, float* target);
[[nodiscard]] Tensor<float> unpadded(const DeviceArray<float>& rows, const TensorShape& shape);

/// One of the three inputs: uploaded, or rounded, when it is first asked for, and then kept. A caller's
/// tensor on the card that is in the precision already, with rows of whole steps, is used where it lies.
class DeviceInput {
 public:
  DeviceInput(TensorView<const float> tensor, Precision precision, const char* what)
      : tensor_(tensor), precision_(precision), what_(what) {}
  DeviceInput(const DeviceTensor& tensor, Precision precision, const char* what)
      : tensor_{nullptr, tensor.shape}, given_(tensor), precision_(precision), what_(what) {}
  [[nodiscard]] const void* rounded() const;
  /// The rounded rows in fp32.
  [[nodiscard]] const float* wide() const;
  [[nodiscard]] const void* in(Precision precision) const {
    return precision == precision_ ? rounded() : static_cast<const void*>(wide());
  }

 private:
  [[nodiscard]] int64_t rows() const { return tensor_.shape.size() / tensor_.shape.dim; }

  TensorView<const float> tensor_;
  DeviceTensor given_;  ///< no data: the tensor is the host's
  Precision precision_;
  const char* what_;
  mutable DeviceRows rounded_;
  mutable DeviceArray<float> wide_;
};

/// Addresses of the host for a tensor that lies on the card: its rows have names there, and a copy of its
/// values once somebody wants to read them.
class HostCopy {
 public:
  explicit HostCopy(const DeviceTensor& source);
  ~HostCopy();
  HostCopy(const HostCopy&) = delete;
  HostCopy& operator=(const HostCopy&) = delete;

  [[nodiscard]] TensorView<const float> view() const { return {data_, source_.shape}; }
  /// Copies the values, in the order of the current stream.
  void fill() const;

 private:
  DeviceTensor source_;
  float* data_ = nullptr;
};

struct HostCopies {
  explicit HostCopies(const DeviceInputs& inputs)
      : query(inputs.query), key(inputs.key), value(inputs.value) {}
  HostCopy query;
  HostCopy key;
  HostCopy value;
  std::once_flag filled;
};

class DeviceProblem final : public BoundProblem {
 public:
  DeviceProblem(const AttentionProblem& problem, const Engine& engine, Precision precision)
      : BoundProblem(problem, engine),
        precision_(precision),
        stream_(Device::current().stream()),
        query_(problem.query, precision, "queries"),
        key_(problem.key, precision, "keys"),
        value_(problem.value, precision, "values") {}
  /// The caller's tensors in place of the views of `problem`.
  DeviceProblem(AttentionProblem problem, const DeviceInputs& inputs, const Engine& engine,
                Precision precision)
      : DeviceProblem(std::make_unique<HostCopies>(inputs), problem, inputs, engine, precision) {}

  [[nodiscard]] const AttentionProblem& problem() const override;
  [[nodiscard]] void* stream() const { return stream_; }

  [[nodiscard]] std::vector<std::string> device_primitives() const override { return {"sort_by_bucket"}; }
  /// Of the rows as they were rounded. Random buckets, and directions that a replay gives, are the host's.
  [[nodiscard]] std::vector<SortedRows> sort_by_bucket(const std::vector<SortRequest>& requests,
                                                       int64_t bucket_count, BucketOrder order,
                                                       SortSeconds* seconds) const override;

  [[nodiscard]] Precision precision() const { return precision_; }
  [[nodiscard]] const DeviceInput& query() const { return query_; }
  [[nodiscard]] const DeviceInput& key() const { return key_; }
  [[nodiscard]] const DeviceInput& value() const { return value_; }

 private:
  DeviceProblem(std::unique_ptr<HostCopies> copies, AttentionProblem& problem, const DeviceInputs& inputs,
                const Engine& engine, Precision precision);

  std::unique_ptr<HostCopies> copies_;  ///< null: the problem's tensors are the host's
  Precision precision_;
  void* stream_;
  DeviceInput query_;
  DeviceInput key_;
  DeviceInput value_;
};

}  // namespace hyperattn::cuda
