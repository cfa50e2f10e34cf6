// Random streams against Philox as its authors published it and against numbers that a separate program
// computed; samples against Floyd's algorithm in plain loops, and as estimators.
#include "core/random.h"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <map>
#include <numbers>
#include <vector>

namespace hyperattn {
namespace {

using Words = std::array<uint32_t, 4>;
using Key = std::array<uint32_t, 2>;

/// Philox 4x32-10, from the description: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as
/// 1, 2, 3", SC 2011.
Words philox(Words c, Key k) {
  for (int round = 0; round < 10; ++round) {
    if (round > 0) k = {k[0] + 0x9E3779B9U, k[1] + 0xBB67AE85U};
    const uint64_t first = uint64_t{0xD2511F53} * c[0];
    const uint64_t second = uint64_t{0xCD9E8D57} * c[2];
    c = {static_cast<uint32_t>(second >> 32) ^ c[1] ^ k[0], static_cast<uint32_t>(second),
         static_cast<uint32_t>(first >> 32) ^ c[3] ^ k[1], static_cast<uint32_t>(first)};
  }
  return c;
}

struct StreamName {
  uint64_t seed;
  Purpose purpose;
  uint32_t trial;
  uint32_t head;
  uint32_t node;

  [[nodiscard]] RandomStream stream() const { return {seed, purpose, trial, head, node}; }
  /// The stream's block number `index`: its key and the upper half of its counter are a block of their own.
  [[nodiscard]] Words block(uint64_t index) const {
    const Words own = philox({static_cast<uint32_t>(purpose), trial, head, node},
                             {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
    return philox({static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), own[2], own[3]},
                  {own[0], own[1]});
  }
};

double unit(uint32_t low, uint32_t high) {
  return static_cast<double>((uint64_t{high} << 32 | low) >> 11) / 9007199254740992.0;  // 2^53
}

/// The upper 64 bits of a·b, from products of halves.
uint64_t upper_half(uint64_t a, uint64_t b) {
  const uint64_t mask = 0xFFFFFFFFU;
  const uint64_t low = (a & mask) * (b & mask);
  const uint64_t middle = (a >> 32) * (b & mask) + (low >> 32);
  const uint64_t other = (a & mask) * (b >> 32) + (middle & mask);
  return (a >> 32) * (b >> 32) + (middle >> 32) + (other >> 32);
}

const std::vector<StreamName> kStreams = {
    {0, Purpose::query, 0, 0, 0},
    {1, Purpose::hash, 0, 0, 0},
    {7, Purpose::key_sample, 3, 11, 6},
    {0xFEDCBA9876543210U, Purpose::prescore, 0xFFFFFFFFU, 0xFFFFFFFEU, 0x80000001U},
    {0xFFFFFFFFFFFFFFFFU, Purpose::other, 0, 1, 2}};
const std::vector<uint64_t> kIndices = {
    0, 1, 2, 4096, 0xFFFFFFFFU, 0x100000000U, 0x123456789ABCDEF0U, 0xFFFFFFFFFFFFFFFFU};

}  // namespace

TEST_CASE("Philox in these tests gives the vectors that were published with it", "[random]") {
  // philox4x32 10 of kat_vectors in Random123.
  CHECK(philox({0, 0, 0, 0}, {0, 0}) == Words{0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8});
  const uint32_t ones = 0xFFFFFFFFU;
  CHECK(philox({ones, ones, ones, ones}, {ones, ones}) ==
        Words{0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD});
  CHECK(philox({0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344}, {0xA4093822, 0x299F31D0}) ==
        Words{0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1});
}

TEST_CASE("a stream's numbers are those of Philox under the stream's own key", "[random]") {
  for (const StreamName& name : kStreams)
    for (const uint64_t index : kIndices) {
      CAPTURE(name.seed, static_cast<int>(name.purpose), index);
      const RandomStream stream = name.stream();
      const Words block = name.block(index);
      const uint64_t bits = uint64_t{block[1]} << 32 | block[0];
      CHECK(stream.bits(index) == bits);
      CHECK(stream.uniform(index) == unit(block[0], block[1]));
      for (const uint64_t bound : {uint64_t{1}, uint64_t{2}, uint64_t{1000003}, ~uint64_t{0}})
        CHECK(stream.below(index, bound) == upper_half(bits, bound));
      const double radius = std::sqrt(-2 * std::log1p(-unit(block[0], block[1])));
      const double normal = radius * std::cos(2 * std::numbers::pi * unit(block[2], block[3]));
      CHECK(stream.normal(index) == Approx(normal).margin(1e-14));
    }
}

TEST_CASE("a stream's numbers are those that a separate program computed", "[random]") {
  // From whole numbers in Python: of each stream above one number, so that the order of the names in the key
  // and the places of the words are held by numbers, too.
  struct Known {
    StreamName name;
    uint64_t index;
    uint64_t bits;
    double uniform;
    double normal;
    uint64_t below_1000003;
  };
  const std::vector<Known> known = {
      {kStreams[0], 0, 0x50282A4DCB63DB8CU, 0.31311287307052227, -0.8353668390869455, 313113},
      {kStreams[1], 0, 0x28216A81FC3D6225U, 0.15675988839597244, 0.5449322552949736, 156760},
      {kStreams[1], 1, 0xA6048CA659F89B15U, 0.6485069185382336, 0.7249903258040626, 648508},
      {kStreams[2], 4096, 0xF8CD3DDC6A6A3222U, 0.9718817389606691, -2.666864238621145, 971884},
      {kStreams[3], 0x123456789ABCDEF0U, 0xEC81C056F2041488U, 0.9238548481244069, -1.6894629339250313,
       923857},
      {kStreams[4], 0xFFFFFFFFFFFFFFFFU, 0xA4309745CA02257FU, 0.641366438425401, -0.4029011764849929,
       641368}};
  for (const Known& one : known) {
    CAPTURE(one.name.seed, one.index);
    const RandomStream stream = one.name.stream();
    CHECK(stream.bits(one.index) == one.bits);
    CHECK(stream.uniform(one.index) == one.uniform);
    CHECK(stream.normal(one.index) == Approx(one.normal).margin(1e-14));
    CHECK(stream.below(one.index, 1000003) == one.below_1000003);
  }
}

TEST_CASE("numbers that are drawn together are those that are drawn one by one", "[random]") {
  const RandomStream stream(11, Purpose::hash, 1, 2, 3);
  for (const uint64_t first : {uint64_t{0}, uint64_t{5}, (uint64_t{1} << 32) - 7})
    for (const int64_t count : {0, 1, 15, 16, 17, 50}) {
      std::vector<double> normals(static_cast<size_t>(count));
      stream.normals(first, count, normals.data());
      for (int64_t i = 0; i < count; ++i) {
        CAPTURE(first, count, i);
        CHECK(normals[static_cast<size_t>(i)] == stream.normal(first + static_cast<uint64_t>(i)));
      }
    }
  std::vector<int32_t> integers(50);
  stream.below_last((uint64_t{1} << 31) - 50, 50, integers.data());
  for (uint64_t i = 0; i < 50; ++i) {
    const uint64_t index = (uint64_t{1} << 31) - 50 + i;
    CHECK(static_cast<uint64_t>(integers[i]) == stream.below(index, index + 1));
  }
}

TEST_CASE("purposes keep their numbers, which are part of every stream's key", "[random]") {
  const std::vector<Purpose> in_order = {
      Purpose::query,          Purpose::key,         Purpose::value,
      Purpose::cluster,        Purpose::hash,        Purpose::key_sample,
      Purpose::value_sample,   Purpose::row_sample,  Purpose::bucket,
      Purpose::operator_start, Purpose::other,       Purpose::output_gradient,
      Purpose::centroid,       Purpose::query_moves, Purpose::base_sample,
      Purpose::pivot,          Purpose::thinning,    Purpose::prescore};
  for (size_t i = 0; i < in_order.size(); ++i) CHECK(static_cast<size_t>(in_order[i]) == i);
}

TEST_CASE("normals have the moments of a normal distribution (|z| < 4.5)", "[random]") {
  const RandomStream stream(3, Purpose::other);
  constexpr int64_t kDraws = 200000;
  // E x^p and Var x^p of a standard normal x.
  const std::vector<std::array<double, 3>> moments = {{1, 0, 1}, {2, 1, 2}, {3, 0, 15}, {4, 3, 96}};
  for (const auto& [power, mean, variance] : moments) {
    double sum = 0;
    for (int64_t i = 0; i < kDraws; ++i) sum += std::pow(stream.normal(static_cast<uint64_t>(i)), power);
    const double z = (sum / kDraws - mean) / std::sqrt(variance / kDraws);
    CAPTURE(power, sum / kDraws, mean, z);
    CHECK(std::abs(z) < 4.5);
  }
}

TEST_CASE("a sample without replacement is Floyd's, at every count", "[random]") {
  for (const int64_t population : {0, 1, 2, 7, 64, 251}) {
    for (int64_t count = 0; count <= population; count += population < 64 ? 1 : 31) {
      const RandomStream stream(11, Purpose::key_sample, 1, 2, static_cast<uint32_t>(count));
      std::vector<int32_t> expected;
      for (int64_t last = population - count; last < population; ++last) {
        const auto draw =
            static_cast<int32_t>(stream.below(static_cast<uint64_t>(last), static_cast<uint64_t>(last) + 1));
        const bool taken = std::find(expected.begin(), expected.end(), draw) != expected.end();
        expected.push_back(taken ? static_cast<int32_t>(last) : draw);
      }
      std::sort(expected.begin(), expected.end());
      CAPTURE(population, count);
      CHECK(sample_without_replacement(stream, population, count) == expected);
    }
  }
}

TEST_CASE("every subset is sampled equally often (|z| < 4.5)", "[random]") {
  constexpr int kDraws = 20000;
  std::map<std::vector<int32_t>, int> seen;
  for (int trial = 0; trial < kDraws; ++trial)
    ++seen[sample_without_replacement(RandomStream(5, Purpose::key_sample, static_cast<uint32_t>(trial)), 6,
                                      3)];
  CHECK(seen.size() == 20);  // 6 over 3
  const double share = 1.0 / 20;
  for (const auto& [subset, count] : seen) {
    const double z = (count - kDraws * share) / std::sqrt(kDraws * share * (1 - share));
    CAPTURE(subset, count, kDraws * share, z);
    CHECK(std::abs(z) < 4.5);
  }
}

}  // namespace hyperattn
