#include "experiments/results/schema.h"

#include <unordered_map>

namespace hyperattn {
namespace {

constexpr auto kInteger = ColumnKind::integer;
constexpr auto kNumber = ColumnKind::number;
constexpr auto kText = ColumnKind::text;
constexpr auto kIdentity = ColumnRole::identity;
constexpr auto kParameter = ColumnRole::parameter;
constexpr auto kOutcome = ColumnRole::outcome;
constexpr auto kFigure = ColumnRole::figure;

}  // namespace

const std::vector<ColumnSpec>& trial_columns() {
  // Names are for good: plots and papers use them. Append within a group; never rename.
  static const std::vector<ColumnSpec> columns{
      {"case_id", kText, kIdentity, "hash of all resolved parameters and the schema version"},
      {"backend", kText, kParameter, "attention method"},
      {"source", kText, kParameter, "input source"},
      {"seq_len", kInteger, kParameter, "query rows n_q"},
      {"key_len", kInteger, kParameter, "key rows n_k"},
      {"head_dim", kInteger, kParameter, "width d of queries and keys"},
      {"value_dim", kInteger, kParameter, "width d_v of values"},
      {"heads", kInteger, kParameter, "heads per batch entry"},
      {"batch", kInteger, kParameter, "batch entries"},
      {"causal", kInteger, kParameter, "1: row i sees keys 0 to i only"},
      {"pass", kText, kParameter, "what is timed: forward or forward_backward"},
      {"bucket_count", kInteger, kParameter, "hash buckets, 2^r for r hyperplanes"},
      {"block_size", kInteger, kParameter, "rows b of a sorted block"},
      {"sample_size", kInteger, kParameter, "sampled keys m"},
      {"condition_number", kNumber, kParameter, "κ that the inputs were built for"},
      {"min_seq_len", kInteger, kParameter, "rows up to which a causal segment is exact"},
      {"estimator", kText, kParameter, "residual or theory"},
      {"mask", kText, kParameter, "sort_lsh, none, band or file"},
      {"bucket_order", kText, kParameter, "gray or reference"},
      {"sampling", kText, kParameter, "uniform, uniform_iid, value_norm or prefix"},
      {"collisions", kText, kParameter, "sampled keys inside the mask: mask (dropped) or count"},
      {"blocks", kText, kParameter, "aligned or banded"},
      {"buckets", kText, kParameter, "lsh, random or kmeans"},
      {"trial", kInteger, kIdentity, "independent draw of inputs and random choices, from 0"},
      {"seed", kInteger, kIdentity, "seed of the run"},
      {"threads", kInteger, kIdentity, "threads that the run used"},
      {"status", kText, kOutcome, "ok, failed or skipped"},
      {"message", kText, kOutcome, "why it failed or was skipped, one sentence"},
      {"seconds", kNumber, kOutcome, "median wall time of one call, s"},
      {"seconds_mad", kNumber, kOutcome, "median absolute deviation of the repeats, s"},
      {"gflops", kNumber, kOutcome,
       "2·(d + d_v) FLOPs for each entry of the backend's own plan, over seconds, GFLOP/s"},
      {"speedup", kNumber, kOutcome, "baseline_seconds over seconds"},
      {"baseline_backend", kText, kOutcome, "the faster of exact and dense on the same inputs"},
      {"baseline_seconds", kNumber, kOutcome, "its median wall time, s"},
      {"peak_bytes", kInteger, kOutcome, "largest sum of counted buffers during the call, bytes"},
      {"entries", kInteger, kOutcome, "score entries that the call computed"},
      {"input_label", kText, kParameter, "name given to the inputs by label:"},
      {"approx_kappa", kNumber, kParameter, "floor τ/κ of ApproxD: κ; NaN also for auto"},
      {"approx_epsilon", kNumber, kParameter, "ε of ApproxD"},
      {"clip_constant", kNumber, kParameter, "clip of ApproxD; 0: none"},
      {"residual", kText, kParameter,
       "sample, centroids, calibrated_centroids, linear_centroids, moments, columns+centroids or none"},
      {"column_share", kNumber, kParameter, "columns+centroids: share of m that goes to exact columns"},
      {"query_blocks", kText, kParameter, "by_rank or by_bucket"},
      {"centre_keys", kInteger, kParameter, "1: the hash sees keys minus their mean"},
      {"error_op", kNumber, kFigure, "‖E‖_op, E = PV − P̃V"},
      {"norm_softmax", kNumber, kFigure, "‖P‖_op"},
      {"norm_softmax_upper", kNumber, kFigure,
       "√(largest column sum of P), a rigorous upper bound of ‖P‖_op"},
      {"norm_value", kNumber, kFigure, "‖V‖_op"},
      {"epsilon", kNumber, kFigure, "‖E‖/(‖P‖‖V‖): the paper's inequality (1)"},
      {"error_op_rel", kNumber, kFigure, "‖E‖_op/‖PV‖_op"},
      {"error_fro_rel", kNumber, kFigure, "‖E‖_F/‖PV‖_F"},
      {"error_max", kNumber, kFigure, "largest |E_ij|"},
      {"epsilon_diagonal", kNumber, kFigure, "‖(D̃⁻¹ − D⁻¹)A‖_op/‖P‖_op: inequality (2)"},
      {"error_lse", kNumber, kFigure, "largest |l̃se_i − lse_i|"},
      {"epsilon_product", kNumber, kFigure, "‖P̃V − diag(exp(lse − l̃se))PV‖_op/(‖P‖‖V‖): inequality (3)"},
      {"alpha", kNumber, kFigure, "(n_k²/n_q)·max_j ‖P e_j‖²"},
      {"alpha_skip", kNumber, kFigure, "alpha without the first skip_columns columns"},
      {"alpha_node", kNumber, kFigure, "causal: largest alpha of the cross nodes"},
      {"log_kappa", kNumber, kFigure, "log of the largest over the smallest unmasked row sum"},
      {"log_kappa_node", kNumber, kFigure, "causal: largest log_kappa of the cross nodes"},
      {"log_kappa_empty", kNumber, kFigure, "log_kappa under the empty mask"},
      {"mask_mass_mean", kNumber, kFigure, "share of softmax mass inside the mask, mean over rows"},
      {"mask_mass_min", kNumber, kFigure, "the same, smallest row"},
      {"log_bound_diagonal", kNumber, kFigure, "log of the ε that Lemma 1 promises"},
      {"bound_product", kNumber, kFigure, "the ε that Lemma 2 promises"},
      {"bound_product_provable", kNumber, kFigure,
       "√(srank(P)·srank(V)/(δm)), holds with probability 1 − δ = 0.99"},
      {"norm_status", kText, kFigure, "whether the norms converged"},
      {"norm_residual", kNumber, kFigure, "largest relative residual of the norms"},
      {"srank_softmax", kNumber, kFigure, "‖P‖_F²/‖P‖_op²"},
      {"srank_value", kNumber, kFigure, "‖V‖_F²/‖V‖_op²"},
      {"clipped_share", kNumber, kFigure, "ApproxD: share of sampled unmasked entries capped by C_i"},
      {"floored_share", kNumber, kFigure, "ApproxD: share of rows lifted to τ/κ"},
      {"model", kText, kParameter, "language model: its folder"},
      {"text", kText, kParameter, "language model: file or folder of its text or ids"},
      {"text_sha256", kText, kOutcome, "SHA-256 of the text's or ids' bytes"},
      {"windows", kInteger, kParameter, "hyperattn lm: windows of the text"},
      {"replace", kText, kParameter,
       "hyperattn lm: which layers are replaced first: last, first, even or odd"},
      {"replaced", kInteger, kParameter, "hyperattn lm: number of layers with replaced attention"},
      {"layers", kText, kParameter, "layers replaced (hyperattn lm) or taken (source language_model)"},
      {"cross_entropy", kNumber, kOutcome, "mean cross-entropy of the predicted tokens, nats"},
      {"bits_per_token", kNumber, kOutcome, "cross_entropy in bits"},
      {"bits_per_byte", kNumber, kOutcome, "the same where every token is a byte"},
      {"perplexity", kNumber, kOutcome, "e to cross_entropy"},
      {"attention_seconds", kNumber, kOutcome, "hyperattn lm: time in all layers' attention, mean window, s"},
      {"attention_speedup", kNumber, kOutcome,
       "hyperattn lm: attention_seconds without a replaced layer over it"},
      {"spectrum", kNumber, kParameter, "largest over smallest singular value of Q and of K; NaN: as drawn"},
      {"query_moves", kNumber, kFigure,
       "causal: share of rows whose keys in the mask change with the later queries of their node"},
  };
  return columns;
}

int trial_column_index(const std::string& name) {
  static const std::unordered_map<std::string, int> indices = [] {
    std::unordered_map<std::string, int> map;
    for (const ColumnSpec& column : trial_columns()) map.emplace(column.name, static_cast<int>(map.size()));
    return map;
  }();
  const auto found = indices.find(name);
  return found == indices.end() ? -1 : found->second;
}

const ColumnSpec* find_trial_column(const std::string& name) {
  const int index = trial_column_index(name);
  return index < 0 ? nullptr : &trial_columns()[static_cast<size_t>(index)];
}

}  // namespace hyperattn
