// The runner has the clock: this only declares the figures, so that configurations can name them.
#include "experiments/measures/described_measure.h"
#include "experiments/measures/measures.h"

namespace hyperattn {

const Measure& timing_measure() {
  static const DescribedMeasure measure({
      "timing",
      "wall time of every repeat and stage, work per second, speedup over exact attention, memory",
      {},
      {{"seconds", "median wall time of one call, s"},
       {"seconds_mad", "median absolute deviation of the repeats, s"},
       {"gflops", "2·(d + d_v) FLOPs for each entry of the backend's own plan, over seconds, GFLOP/s"},
       {"speedup", "baseline_seconds over seconds"},
       {"baseline_seconds", "median wall time of the faster of exact and dense on the same inputs, s"},
       {"peak_bytes", "largest sum of counted buffers during the call, bytes"}},
      [](MeasureContext&, const Parameters&) { return std::vector<FigureRow>(1); },
  });
  return measure;
}

}  // namespace hyperattn
