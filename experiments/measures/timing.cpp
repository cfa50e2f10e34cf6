// The runner has the clock: this only declares the figures, so that configurations can name them.
#include "experiments/measures/described_measure.h"
#include "experiments/measures/measures.h"

namespace hyperattn {

const Measure& timing_measure() {
  static const DescribedMeasure measure({
      "timing",
      "wall time of every repeat and stage, work per second, speedup over exact attention, memory",
      {},
      {FigureSpec{"seconds", "median wall time of one call"}.in_unit("s").headline(),
       FigureSpec{"seconds_mad", "median absolute deviation of the repeats"}.in_unit("s").headline(),
       FigureSpec{"gflops", "2·(d + d_v) FLOPs for each entry of the backend's own plan, over seconds"}
           .in_unit("GFLOP/s"),
       FigureSpec{"speedup", "baseline_seconds over seconds"}.headline(),
       FigureSpec{"baseline_seconds", "median wall time of the fastest exact attention on the same inputs"}
           .in_unit("s"),
       FigureSpec{"peak_bytes", "largest sum of counted buffers during the call"}.in_unit("bytes")},
      [](MeasureContext&, const Parameters&) { return std::vector<FigureRow>(1); },
      true,
  });
  return measure;
}

}  // namespace hyperattn
