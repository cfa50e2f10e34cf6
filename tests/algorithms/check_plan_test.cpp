// Each invariant of a plan, broken once.
#include "algorithms/check_plan.h"

#include <catch2/catch.hpp>
#include <functional>
#include <limits>

#include "algorithms/plan_builder.h"
#include "tests/algorithms/random_problem.h"

namespace hyperattn::testing {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::shared_ptr<const std::vector<float>> floats(std::vector<float> values) {
  return std::make_shared<const std::vector<float>>(std::move(values));
}

/// Six queries, eight keys, two heads of one key head; the first pass of the first phase has a weighted list
/// with segments, a mean, exclusions and row visits.
struct Subject {
  RandomProblem owned{{6, 8, 3, 2, 1, 2}};
  AttentionProblem problem = owned.problem;
  Plan plan;

  Subject() {
    problem.key.shape.heads = problem.value.shape.heads = 1;
    PassBuilder pass(problem, 0, 0, RowOrder::list({4, 0, 2, 1}));
    KeyList keys;
    keys.order = RowOrder::list({7, 1, 3, 0, 5});
    keys.log_weight = floats({0, 1, -kInfinity, 0, 2});
    keys.segments = std::make_shared<const std::vector<int32_t>>(std::vector<int32_t>{0, 2, 5});
    const int32_t first = pass.add_list(keys);
    const int32_t second = pass.add_list(mean_list());
    pass.group(0, 2).visit_all_except(first, {1, 3}).visit(second, 0, 1);
    pass.group(2, 4)
        .visit(first, 1, 4)
        .visit_segment(first, 0, {{2, 1}, {3, 0}})
        .visit_segment(first, 1, {{3, 2}});
    PassBuilder other(problem, 0, 1, RowOrder::run(5, 1));
    other.everything_sees_all(other.add_keys(RowOrder::list({2, 4}), Stage::block));
    PassBuilder head(problem, 1, 0, RowOrder::run(0, 6));
    head.triangular(2, 3).everything_sees_all(head.add_keys(RowOrder::run(0, 8), Stage::exact));
    plan = PlanBuilder().phase().add(pass.take()).add(other.take()).add(head.take()).take();
  }

  [[nodiscard]] KeyList mean_list() const {
    auto mean = std::make_shared<SyntheticKeys>();
    mean->key = Tensor<float>({1, 1, 1, 3}, 0.5F);
    mean->value = Tensor<float>({1, 1, 1, 2}, 0.5F);
    mean->member_order = RowOrder::list({6, 7});
    mean->member_begin = {0, 2};
    KeyList list;
    list.order = RowOrder::run(0, 1);
    list.synthetic = mean;
    return list;
  }

  Pass& pass(size_t number = 0) { return plan.phases[0].passes[number]; }
  KeyList& list(size_t number = 0) { return pass().lists[number]; }
  /// A copy of the mean's members that can be broken.
  std::shared_ptr<SyntheticKeys> own_mean() {
    auto mean = std::make_shared<SyntheticKeys>();
    mean->key = Tensor<float>({1, 1, 1, 3}, 0.5F);
    mean->value = Tensor<float>({1, 1, 1, 2}, 0.5F);
    mean->member_order = RowOrder::list({6, 7});
    mean->member_begin = {0, 2};
    list(1).synthetic = mean;
    return mean;
  }
};

std::shared_ptr<const KeyMoments> moments(size_t d, size_t d_v) {
  auto result = std::make_shared<KeyMoments>();
  result->mean_key.resize(d);
  result->mean_value.resize(d_v);
  result->covariance.resize(d * d);
  result->cross_covariance.resize(d * d_v);
  return result;
}

std::shared_ptr<const LinearValues> linear(size_t d, size_t d_v) {
  auto result = std::make_shared<LinearValues>();
  result->variance.resize(d);
  result->cross_covariance.resize(d * d_v);
  return result;
}

std::shared_ptr<const SignedWeights> signs(size_t count) {
  auto result = std::make_shared<SignedWeights>();
  result->numerator.resize(count, 1);
  result->denominator.resize(count, -1);
  return result;
}

TEST_CASE("check_plan: the subject of these tests is valid") {
  Subject subject;
  CHECK(check_plan(subject.problem, subject.plan) == "");
  CHECK(check_plan(subject.problem, Plan()) == "");
}

struct Breakage {
  const char* sentence;  ///< part of what check_plan says
  std::function<void(Subject&)> breaks;
};

const std::vector<Breakage>& breakages() {
  static const std::vector<Breakage> all = {
      {"the head must be one of the problem's", [](Subject& s) { s.pass().head = 2; }},
      {"the key head must be that of the head", [](Subject& s) { s.pass().key_head = 1; }},
      {"positions must be query rows",
       [](Subject& s) {
         s.pass().queries = RowOrder::list({4, 0, 6, 1});
       }},
      {"row 4 stands twice",
       [](Subject& s) {
         s.pass().queries = RowOrder::list({4, 0, 4, 1});
       }},
      {"row 4 stands twice", [](Subject& s) { s.pass(1).queries = RowOrder::run(4, 1); }},
      {"share row 3",
       [](Subject& s) {
         s.pass(1).lists[0].order = RowOrder::list({2, 3});
       }},
      {"an order must hold rows of K",
       [](Subject& s) {
         s.list().order = RowOrder::list({7, 1, 3, 0, 8});
       }},
      {"an order must hold rows of K", [](Subject& s) { s.list(1).order = RowOrder::run(0, 2); }},
      {"an order must hold rows of K", [](Subject& s) { s.list().order.count = 4; }},
      {"a log-weight must not be NaN", [](Subject& s) { s.pass(1).lists[0].uniform_log_weight = kInfinity; }},
      {"a log-weight must not be NaN",
       [](Subject& s) {
         s.list().log_weight = floats({0, 0, NAN, 0, 0});
       }},
      {"a log-weight for each rank",
       [](Subject& s) {
         s.list().log_weight = floats({0, 0, 0, 0});
       }},
      {"a numerator and a denominator weight for each rank",
       [](Subject& s) { s.list().signed_weights = signs(4); }},
      {"signed weights must be finite",
       [](Subject& s) {
         auto weights = std::make_shared<SignedWeights>(*signs(5));
         weights->denominator[2] = kInfinity;
         s.list().signed_weights = weights;
       }},
      {"signed weights stand beside no factor",
       [](Subject& s) {
         s.list().signed_weights = signs(5);
         s.list().factor = {floats({0, 0, 0, 0}), floats({0, 0, 0, 0, 0})};
       }},
      {"a factor needs numbers of rows and of ranks",
       [](Subject& s) {
         s.list().factor.row = floats({0, 0, 0, 0});
       }},
      {"one number for each position and one for each rank",
       [](Subject& s) {
         s.list().factor = {floats({0, 0, 0}), floats({0, 0, 0, 0, 0})};
       }},
      {"must be finite and not negative",
       [](Subject& s) {
         s.list().factor = {floats({0, -1, 0, 0}), floats({0, 0, 0, 0, 0})};
       }},
      {"synthetic keys and values must be as many",
       [](Subject& s) {
         s.own_mean()->value = Tensor<float>({1, 1, 2, 2}, 0.0F);
       }},
      {"synthetic keys and values must have the problem's widths",
       [](Subject& s) {
         s.own_mean()->key = Tensor<float>({1, 1, 1, 4}, 0.0F);
       }},
      {"a member must be a key row",
       [](Subject& s) {
         s.own_mean()->member_order = RowOrder::list({6, 8});
       }},
      {"member_begin must be count + 1 offsets",
       [](Subject& s) {
         s.own_mean()->member_begin = {0, 1};
       }},
      {"a share for each member", [](Subject& s) { s.own_mean()->member_share = {1}; }},
      {"segments must lie within the list",
       [](Subject& s) {
         s.list().segments = std::make_shared<const std::vector<int32_t>>(std::vector{0, 2, 6});
       }},
      {"segment 0 must hold 0 to 16 ranks",
       [](Subject& s) {
         s.list().segments = std::make_shared<const std::vector<int32_t>>(std::vector{2, 0, 5});
       }},
      {"groups must be in order", [](Subject& s) { s.pass().groups[1].begin = 1; }},
      {"groups must be in order", [](Subject& s) { s.pass().groups[1].end = 5; }},
      {"a group's visits must lie within", [](Subject& s) { s.pass().groups[1].last_visit = 9; }},
      {"a group's visits must lie within", [](Subject& s) { s.pass().groups[1].last_row_visit = 9; }},
      {"a visit must name a list", [](Subject& s) { s.pass().visits[0].list = 2; }},
      {"must lie within its list of 5", [](Subject& s) { s.pass().visits[2].end = 6; }},
      {"exclusions must lie within those of the pass",
       [](Subject& s) { s.pass().visits[0].excluded_end = 3; }},
      {"exclusions must increase",
       [](Subject& s) {
         s.pass().excluded = {3, 1};
       }},
      {"exclusions must increase",
       [](Subject& s) {
         s.pass().excluded = {1, 5};
       }},
      {"a row visit must name a list", [](Subject& s) { s.pass().row_visits[0].list = -1; }},
      {"a row visit must name a segment", [](Subject& s) { s.pass().row_visits[0].list = 1; }},
      {"a row visit must name a segment", [](Subject& s) { s.pass().row_visits[1].segment = 2; }},
      {"entries of a row visit must lie within", [](Subject& s) { s.pass().row_visits[1].last_entry = 9; }},
      {"positions of a row visit must increase", [](Subject& s) { s.pass().row_entries[1].position = 2; }},
      {"positions of a row visit must increase", [](Subject& s) { s.pass().row_entries[1].position = 4; }},
      {"a skip must lie within its segment", [](Subject& s) { s.pass().row_entries[0].skip = 4; }},
      {"row visits of a group must be in order",
       [](Subject& s) { std::swap(s.pass().row_visits[0], s.pass().row_visits[1]); }},
      {"a linear list needs the pass's linear values", [](Subject& s) { s.list(1).linear_value = true; }},
      {"linear lists must come last",
       [](Subject& s) {
         s.pass().linear_values = linear(3, 2);
         s.list(0).linear_value = true;
       }},
      {"moment_keys needs the pass's moments", [](Subject& s) { s.pass().groups[0].moment_keys = 2; }},
      {"moments must have the problem's widths", [](Subject& s) { s.pass().moments = moments(3, 3); }},
      {"linear values must have the problem's widths",
       [](Subject& s) { s.pass().linear_values = linear(2, 2); }},
      {"a triangular pass has no row visits",
       [](Subject& s) { s.plan.phases[0].passes[2].moments = moments(3, 2); }},
      {"a row of it stands in a last group of an earlier phase",
       [](Subject& s) {
         s.plan.phases.push_back(s.plan.phases[0]);
         s.pass().groups[1].is_last = true;
       }},
      {"only a triangular pass has a diagonal", [](Subject& s) { s.pass().window = 1; }},
      {"a plan with signed weights has no moments",
       [](Subject& s) {
         s.list().signed_weights = signs(5);
         s.pass(1).moments = moments(3, 2);
       }},
  };
  return all;
}

TEST_CASE("check_plan: every invariant that is broken is named") {
  for (const Breakage& breakage : breakages()) {
    Subject subject;
    breakage.breaks(subject);
    const std::string said = check_plan(subject.problem, subject.plan);
    INFO("expected '" << breakage.sentence << "', but check_plan says '" << said << "'");
    CHECK(said.find(breakage.sentence) != std::string::npos);
  }
}

TEST_CASE("check_plan: an engine that checks plans refuses an invalid one") {
  Subject subject;
  subject.pass().excluded = {3, 1};
  const bool before = plans_are_checked();
  set_plans_are_checked(true);
  CHECK_THROWS_WITH(require_valid_plan(subject.problem, subject.plan), Catch::Contains("phase 0, pass 0"));
  set_plans_are_checked(false);
  CHECK_NOTHROW(require_valid_plan(subject.problem, subject.plan));
  set_plans_are_checked(before);
}

}  // namespace
}  // namespace hyperattn::testing
