#pragma once
// The script that a job runs. Every form that carries a script carries the same body; only the
// lines before it, which tell the batch system what to allocate, differ. The body is right even
// where the batch system took no notice of them.

#include <string>
#include <vector>

#include "launch/job/description.hpp"

namespace hadal::launch {

// bash, without its first line.
std::string script_body(const JobDescription& job);

// "#!/bin/bash", where it comes from, `header`, and the body.
std::string whole_script(const JobDescription& job, const std::vector<std::string>& header);

// What starts the ranks, without the program: srun or mpirun with counts and binding.
std::vector<std::string> launcher_words(const JobOptions& options);

// Of the verbs that take the run's config: the config and its settings.
std::vector<std::string> arguments(const JobDescription& job);

}  // namespace hadal::launch
