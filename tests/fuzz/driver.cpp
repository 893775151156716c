// Runs a fuzz target for some seconds on mutations of its corpus: bytes flipped, runs cut, copied
// and joined, numbers replaced by extreme ones. A failing input is left in `fuzz-input` for replay
// by name.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "tests/fuzz/target.hpp"

namespace {

class Mutator {
 public:
  explicit Mutator(std::vector<std::string> corpus)
      : corpus_(std::move(corpus)), random_(20260131) {}

  std::string next() {
    std::string text = corpus_[below(corpus_.size())];
    for (std::size_t n = 1 + below(6); n > 0; --n) mutate(text);
    return text;
  }

 private:
  std::size_t below(std::size_t limit) { return limit == 0 ? 0 : random_() % limit; }

  std::string tail(const std::string& text) { return text.substr(below(text.size() + 1)); }

  void mutate(std::string& text) {
    static const std::vector<std::string> kExtremes{"0",
                                                    "-1",
                                                    "18446744073709551616",
                                                    "9223372036854775807",
                                                    "1e999",
                                                    "nan",
                                                    "\"",
                                                    "{",
                                                    "}",
                                                    "[",
                                                    "]",
                                                    "\n",
                                                    "\\u0000",
                                                    "\xff\xfe",
                                                    "=",
                                                    "#",
                                                    "'''",
                                                    "4294967295",
                                                    "0x",
                                                    "1979-05-27"};
    const std::size_t at = below(text.size() + 1);
    switch (below(7)) {
      case 0:
        if (at < text.size()) text[at] = static_cast<char>(random_());
        break;
      case 1:
        if (at < text.size()) text[at] = static_cast<char>(text[at] ^ (1 << below(8)));
        break;
      case 2:
        text.erase(at, below(16));
        break;
      case 3:
        text.insert(at, text.substr(below(text.size() + 1), below(64)));
        break;
      case 4:
        text.insert(at, kExtremes[below(kExtremes.size())]);
        break;
      case 5:
        text.resize(at);
        break;
      default:
        text += tail(corpus_[below(corpus_.size())]);
    }
  }

  std::vector<std::string> corpus_;
  std::mt19937_64 random_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::ifstream(argv[1]).good()) {
    std::ifstream file(argv[1], std::ios::binary);
    const std::string input{std::istreambuf_iterator<char>(file), {}};
    fuzz_one(input);
    return 0;
  }
  const double seconds = argc > 1 ? std::stod(argv[1]) : 60;
  const auto start = std::chrono::steady_clock::now();
  Mutator mutator(fuzz_corpus());
  std::int64_t runs = 0;
  std::string input;
  try {
    for (const std::string& seed : fuzz_corpus()) fuzz_one(input = seed);
    while (std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() <
           seconds) {
      for (int i = 0; i < 100; ++i, ++runs) fuzz_one(input = mutator.next());
    }
  } catch (...) {
    std::ofstream("fuzz-input", std::ios::binary) << input;
    std::fprintf(stderr, "input %lld failed; it is in fuzz-input\n", static_cast<long long>(runs));
    throw;
  }
  std::printf("%lld inputs\n", static_cast<long long>(runs));
  return runs > 0 ? 0 : 1;
}
