#pragma once
// What a fuzz target gives the driver.

#include <string>
#include <vector>

// Must return normally for any bytes: an io::Error of the expected kind is caught inside,
// everything else is a finding.
void fuzz_one(const std::string& input);

std::vector<std::string> fuzz_corpus();
