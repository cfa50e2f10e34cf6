// What makes a plan valid. An engine may rely on all of it, so a mistake of a new method is a sentence here
// and not a wrong number there.
#pragma once

#include <string>

#include "algorithms/plan.h"

namespace hyperattn {

/// Empty if the plan is one for the problem; else the first broken invariant and its place:
/// - heads and key heads are those of the problem; query rows of a pass, and of all passes of a phase that
/// share
///   a head, are distinct and of the problem; so are the rows of K of different passes of a phase;
/// - lists: orders point at rows of K or at synthetic keys; one log-weight, N, D and factor for each rank
/// (and
///   position), none of them NaN or +∞, factors not negative; synthetic keys have the problem's widths and
///   members among its keys; segments are increasing, at most kSegmentKeys wide and within the list;
/// - groups are in order and disjoint; visits lie within their lists, exclusions increase and lie within
/// their
///   visits; row visits are ordered by list and segment, their positions increase and lie within the group,
///   skips are within the segment; linear lists come last;
/// - a list has signed weights or a factor or linear values, not signed weights beside another of them; a
/// plan
///   with signed weights has neither moments nor linear values; a triangular pass has no row visits, moments
///   or linear values; moment_keys > 0 only where there are moments of the problem's widths, and likewise
///   linear values.
/// O(size of the plan).
[[nodiscard]] std::string check_plan(const AttentionProblem& problem, const Plan& plan);

/// Whether engines check each plan before they run it: in debug builds, where the environment variable
/// HYPERATTN_CHECK_PLANS is set, or when asked here.
[[nodiscard]] bool plans_are_checked();
void set_plans_are_checked(bool checked);

/// Throws std::logic_error with the broken invariant if plans are checked and this one is not valid.
void require_valid_plan(const AttentionProblem& problem, const Plan& plan);

}  // namespace hyperattn
