// A problem whose inputs lie on the card.
#pragma once

#include <memory>

#include "algorithms/bound_problem.h"
#include "algorithms/engines/cuda/device.h"
#include "algorithms/engines/cuda/kernels.h"
#include "algorithms/plan.h"

namespace hyperattn::cuda {

/// Rows on the card in some precision, of padded width.
class DeviceRows {
 public:
  DeviceRows() = default;
  DeviceRows(Precision precision, int64_t rows, int64_t width, const char* what)
      : bytes_(rows * padded_width(width) * bytes_of(precision), what) {}
  /// Host rows (rows × width), rounded.
  static DeviceRows rounded(Precision precision, const float* rows, int64_t count, int64_t width,
                            const char* what);

  [[nodiscard]] void* data() const { return bytes_.data(); }
  [[nodiscard]] bool empty() const { return bytes_.size() == 0; }
  [[nodiscard]] static int64_t bytes_of(Precision precision) { return precision == Precision::fp32 ? 4 : 2; }

 private:
  DeviceArray<unsigned char> bytes_;
};

/// The host's copy of fp32 rows of padded width, without the padding.
[[nodiscard]] Tensor<float> unpadded(const DeviceArray<float>& rows, const TensorShape& shape);

/// One of the three inputs: uploaded when it is first asked for, and then kept.
class DeviceInput {
 public:
  DeviceInput(TensorView<const float> tensor, Precision precision, const char* what)
      : tensor_(tensor), precision_(precision), what_(what) {}
  [[nodiscard]] const void* rounded() const;
  /// The rounded rows in fp32.
  [[nodiscard]] const float* wide() const;
  [[nodiscard]] const void* in(Precision precision) const {
    return precision == precision_ ? rounded() : static_cast<const void*>(wide());
  }

 private:
  TensorView<const float> tensor_;
  Precision precision_;
  const char* what_;
  mutable DeviceRows rounded_;
  mutable DeviceArray<float> wide_;
};

class DeviceProblem final : public BoundProblem {
 public:
  DeviceProblem(const AttentionProblem& problem, const Engine& engine, Precision precision)
      : BoundProblem(problem, engine),
        precision_(precision),
        query_(problem.query, precision, "queries"),
        key_(problem.key, precision, "keys"),
        value_(problem.value, precision, "values") {}

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
  Precision precision_;
  DeviceInput query_;
  DeviceInput key_;
  DeviceInput value_;
};

}  // namespace hyperattn::cuda
