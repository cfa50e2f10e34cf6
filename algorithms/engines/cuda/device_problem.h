// A problem whose inputs lie on the card.
#pragma once

#include <memory>
#include <mutex>
#include <optional>

#include "algorithms/bound_problem.h"
#include "algorithms/engines/cuda/device.h"
#include "algorithms/engines/cuda/device_tensor.h"
#include "algorithms/engines/cuda/kernels.h"
#include "algorithms/engines/cuda/planning.h"
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

/// Row number of a view's first row in a tensor, −1 if the view is of something else.
[[nodiscard]] int64_t row_in(TensorView<const float> tensor, MatrixView<const float> rows);

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

/// Where a forward call's results go: out, rows of d_v in some type, and lse.
struct ForwardTarget {
  void* out = nullptr;
  Precision type = Precision::fp32;
  float* lse = nullptr;
};

class ForwardRun;

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

  /// Of the rows as they were rounded. Random buckets, and directions that a replay gives, are the host's.
  [[nodiscard]] std::shared_ptr<const HashedRows> hash_rows(const std::vector<SortRequest>& requests,
                                                            int64_t bucket_count,
                                                            BucketOrder order) const override;
  [[nodiscard]] std::vector<SortedRows> sort_by_bucket(const std::vector<SortRequest>& requests,
                                                       int64_t bucket_count, BucketOrder order,
                                                       SortSeconds* seconds) const override;
  /// Likewise; centred rows are the host's.
  [[nodiscard]] std::vector<uint32_t> bucket_codes(MatrixView<const float> rows,
                                                   const HashDirections& directions, BucketOrder order,
                                                   bool centre) const override;
  /// Bits are those of the host where its vectors are AVX2's or AVX-512's; elsewhere the host plans.
  [[nodiscard]] std::vector<double> squared_row_norms(MatrixView<const float> rows) const override;
  [[nodiscard]] DenseMatrix<float> gathered_rows(MatrixView<const float> rows,
                                                 const std::vector<int32_t>& names) const override;
  [[nodiscard]] std::vector<uint32_t> best_centres(MatrixView<const float> rows,
                                                   MatrixView<const float> centres, float factor,
                                                   const std::vector<float>& bias) const override;
  [[nodiscard]] ColumnMasses column_masses(int64_t head, const AttentionNode& node,
                                           const std::vector<int32_t>& key_ranks,
                                           const SampledQueries& queries) const override;
  [[nodiscard]] std::shared_ptr<SyntheticKeys> run_means(int64_t head, const KeyRuns& runs) const override;
  [[nodiscard]] KeyMoments key_moments(int64_t head, const AttentionNode& node) const override;
  [[nodiscard]] LinearValues missed_covariance(int64_t head, const AttentionNode& node,
                                               const SyntheticKeys& runs) const override;
  [[nodiscard]] KeyTree balanced_key_tree(MatrixView<const float> keys, const AttentionNode& node,
                                          const std::vector<int64_t>& sizes) const override;
  [[nodiscard]] std::vector<SegmentMeans> segment_means(int64_t head, const KeyTree& tree,
                                                        bool spreads) const override;
  [[nodiscard]] BeamChoice choose_segments(const BeamRequest& request) const override;

  /// The plan that is made next is for a forward call to tensors on the card: it may leave groups to the
  /// card, and in a causal problem its phases are begun as soon as they are made.
  void expect_forward(const ForwardTarget& target) const;
  [[nodiscard]] bool takes_sampled_blocks() const override { return expected_.has_value(); }
  [[nodiscard]] bool draws_hash_functions() const override { return true; }
  void phases_are_made(const Plan& plan) const override;
  /// The run of those phases; null: none is begun.
  [[nodiscard]] std::shared_ptr<ForwardRun> take_begun() const;
  /// What hashing took that nobody has waited for. Waits for the card.
  [[nodiscard]] double take_hash_seconds() const;

  [[nodiscard]] Precision precision() const { return precision_; }
  [[nodiscard]] const DeviceInput& query() const { return query_; }
  [[nodiscard]] const DeviceInput& key() const { return key_; }
  [[nodiscard]] const DeviceInput& value() const { return value_; }

 private:
  DeviceProblem(std::unique_ptr<HostCopies> copies, AttentionProblem& problem, const DeviceInputs& inputs,
                const Engine& engine, Precision precision);
  template <class Body>
  [[nodiscard]] bool of_view(MatrixView<const float> rows, const Body& body) const;
  [[nodiscard]] PlanningRows keys_on_card(int64_t head) const;
  [[nodiscard]] PlanningRows values_on_card(int64_t head) const;

  std::unique_ptr<HostCopies> copies_;  ///< null: the problem's tensors are the host's
  Precision precision_;
  void* stream_;
  DeviceInput query_;
  DeviceInput key_;
  DeviceInput value_;
  mutable std::optional<ForwardTarget> expected_;
  mutable std::unique_ptr<DeviceTimer> hashing_;
  mutable std::shared_ptr<ForwardRun> begun_;
};

}  // namespace hyperattn::cuda
