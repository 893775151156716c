#include "launch/host_list.hpp"

#include "io/error.hpp"
#include "tests/support/catch.hpp"

using namespace hadal;
using Names = std::vector<std::string>;

TEST_CASE("lists of hosts are taken apart as Slurm means them") {
  REQUIRE(launch::expand_host_list("linux[1,2]") == Names{"linux1", "linux2"});
  REQUIRE(launch::expand_host_list("jean-zay-ia[810-811]") ==
          Names{"jean-zay-ia810", "jean-zay-ia811"});
  REQUIRE(launch::expand_host_list("alpha,beta") == Names{"alpha", "beta"});
  REQUIRE(launch::expand_host_list("nodeA,nodeB[001,003],nodeC") ==
          Names{"nodeA", "nodeB001", "nodeB003", "nodeC"});
  REQUIRE(launch::expand_host_list("r[1-2]n[01-02]") == Names{"r1n01", "r1n02", "r2n01", "r2n02"});
  REQUIRE(launch::expand_host_list("n[008-011]") == Names{"n008", "n009", "n010", "n011"});
  REQUIRE(launch::expand_host_list("n[9-10]-ib.site") == Names{"n9-ib.site", "n10-ib.site"});
  REQUIRE(launch::expand_host_list("n[98-101,7]").size() == 5);
  REQUIRE(launch::expand_host_list("n2,n1") == Names{"n2", "n1"});
}

TEST_CASE("what is no list of hosts is told with the column") {
  const auto fault = [](const std::string& list) {
    return tests::error_of(io::ErrorKind::launch, [&] { launch::expand_host_list(list); });
  };
  REQUIRE(fault("n[3-1") == "\"n[3-1\" is no list of hosts: the range runs backwards at column 6");
  REQUIRE(tests::contains(fault("n[1-3"), "',' is missing at column 6"));
  REQUIRE(tests::contains(fault("n[]"), "a number is missing at column 3"));
  REQUIRE(tests::contains(fault(""), "a name is missing at column 1"));
  REQUIRE(tests::contains(fault("a,,b"), "a name is missing at column 3"));
  REQUIRE(tests::contains(fault("a,"), "a name is missing at column 3"));
  REQUIRE(tests::contains(fault("a]"), "']' has no place at column 2"));
  REQUIRE(tests::contains(fault("a b"), "' ' has no place at column 2"));
  REQUIRE(tests::contains(fault("n[1-99999999999]"), "too many hosts"));
  REQUIRE(tests::contains(fault("n[1-99999][1-99999]"), "too many hosts"));
  REQUIRE(tests::contains(fault("n[99999999999999999999999]"), "too large"));
}
