// Nyström weights (primitives/nystrom.h) in place of n/m. The weights are those of the keys outside the row's
// own mask alone: with W of all keys, a block's rows get from pivot j
//   Σ_{l outside} W_jl (v_l, 1) = Σ_l W_jl (v_l, 1) − Σ_{l inside} W_jl (v_l, 1),
// so that no key counts twice. Pivots inside the mask stay: they lend their place to keys outside, and their
// own weight of 1 is in the part that is subtracted. Bins are equal parts of the mask's order of keys, so
// that with sorted blocks they hold keys that are alike; a mask changes only the bins in which it has keys.
#include <algorithm>
#include <map>
#include <utility>

#include "algorithms/nodes/node_work.h"
#include "algorithms/primitives/nystrom.h"
#include "algorithms/residuals/residual.h"
#include "core/eigen.h"

namespace hyperattn {
namespace {

/// The pivots of all bins, and what the groups of a mask see of them.
class GroupPivots {
 public:
  GroupPivots(const NystromKeys& keys, const NodeMask& mask, const std::vector<NystromBin>& bins,
              PassBuilder& pass)
      : keys_(keys), mask_(mask), bins_(bins), pass_(pass) {
    PivotList all(keys, 0);
    for (const NystromBin& bin : bins) {
      totals_.push_back(bin.total());
      begins_.push_back(all.count());
      all.add(bin, totals_.back());
    }
    begins_.push_back(all.count());
    all_ = pass.add_list(all.take());
    for (const MaskGroup& group : mask.groups) add_own(group);
  }

  /// The pass's open group visits the pivots with the weights of the keys outside the group's mask.
  void visit(size_t g) const {
    const Own& own = own_.at(key_of(mask_.groups[g]));
    int64_t begin = 0;
    for (const size_t bin : own.bins) {
      pass_.visit(all_, begin, begins_[bin]);
      begin = begins_[bin + 1];
    }
    pass_.visit(all_, begin, begins_.back());
    if (!own.bins.empty()) pass_.visit_all(own.list);
  }

 private:
  /// The bins in which a mask has keys, and their pivots' weights without these.
  struct Own {
    std::vector<size_t> bins;
    int32_t list = 0;
  };
  using Key = std::vector<std::pair<int64_t, int64_t>>;

  [[nodiscard]] Key key_of(const MaskGroup& group) const {
    Key key;
    for (int64_t r = group.first_range; r < group.last_range; ++r) {
      const RankRange& range = mask_.ranges[static_cast<size_t>(r)];
      if (range.begin < range.end) key.emplace_back(range.begin, range.end);
    }
    return key;
  }

  void add_own(const MaskGroup& group) {
    const auto [place, is_new] = own_.try_emplace(key_of(group));
    if (!is_new) return;
    Own& own = place->second;
    PivotList pivots(keys_, 0);
    for (size_t b = 0; b < bins_.size(); ++b) {
      const NystromBin& bin = bins_[b];
      DenseMatrix<double> outside = totals_[b];
      bool touched = false;
      for (size_t p = 0; p + 1 < bin.borders.size(); ++p) {
        if (!holds(mask_, group, bin.borders[p])) continue;
        as_eigen(outside) -= as_eigen(bin.pieces[p]);
        touched = true;
      }
      if (!touched) continue;
      own.bins.push_back(b);
      pivots.add(bin, outside);
    }
    if (!own.bins.empty()) own.list = pass_.add_list(pivots.take());
  }

  const NystromKeys& keys_;
  const NodeMask& mask_;
  const std::vector<NystromBin>& bins_;
  PassBuilder& pass_;
  std::vector<DenseMatrix<double>> totals_;
  std::vector<int64_t> begins_;  // of each bin's pivots in the list of all
  int32_t all_ = 0;
  std::map<Key, Own> own_;
};

class NystromResidual final : public DescribedResidual {
 public:
  NystromResidual()
      : DescribedResidual({"nystrom", "pivot keys with signed weights", nystrom_parameters()}) {}

  [[nodiscard]] bool needs_whole_blocks() const override { return true; }
  [[nodiscard]] bool clips_to_values() const override { return true; }
  [[nodiscard]] std::string no_gradient() const override {
    return "has no gradient with residual: nystrom, because its weights depend on all keys and values; use "
           "another residual, such as calibrated_centroids";
  }
  [[nodiscard]] std::string check(const Parameters& parameters) const override {
    return check_bins(parameters, "sample_size", parameters.integer("sample_size"));
  }

  [[nodiscard]] std::unique_ptr<ResidualPlanner> plan(const ResidualRequest& request) const override {
    return passes_by_node([request](size_t i, const NodeMask& mask) {
      const HeadNode& place = request.nodes[i];
      const AttentionProblem& problem = request.bound.problem();
      const NystromKeys keys = nystrom_keys(problem, place, mask.keys, request.rows_are_independent);
      const int64_t pivots = std::min(request.sample_size, mask.keys.count);
      NystromOptions options = nystrom_options(request.call.parameters);
      options.bins = std::min(options.bins, pivots);
      const std::vector<NystromBin> bins = nystrom_bins(keys, options, pivots, borders_of(mask),
                                                        node_stream(request.call, Purpose::pivot, place));
      std::vector<Pass> passes;
      passes.push_back(pass_of(problem, place, mask, keys, bins));
      return passes;
    });
  }

 private:
  static Pass pass_of(const AttentionProblem& problem, const HeadNode& place, const NodeMask& mask,
                      const NystromKeys& keys, const std::vector<NystromBin>& bins) {
    PassBuilder pass(problem, place.head, place.node.number, mask.queries);
    const bool has_mask = !mask.ranges.empty();
    const GroupVisits masked = has_mask ? GroupVisits::masked(mask, Stage::block, pass) : GroupVisits();
    const GroupPivots pivots(keys, mask, bins, pass);
    for (size_t g = 0; g < mask.groups.size(); ++g) {
      pass.group(mask.groups[g].begin, mask.groups[g].end);
      if (has_mask) masked.visit(g, pass);
      pivots.visit(g);
    }
    return pass.take();
  }
};

}  // namespace

const Residual& residual_nystrom() {
  static const NystromResidual residual;
  return residual;
}

}  // namespace hyperattn
