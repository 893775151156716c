#include <fmt/format.h>

#include "io/atomic_file.hpp"
#include "io/error.hpp"
#include "launch/job/forms.hpp"
#include "launch/job/needs.hpp"
#include "launch/verbs.hpp"

namespace hadal::launch {

std::vector<std::string> form_names() {
  std::vector<std::string> names;
  for (const Form& form : forms()) names.push_back(form.name);
  return names;
}

int render(const RenderArguments& arguments) {
  const Form& form = find_form(arguments.form);
  const LoadedConfig config = load_config(arguments.config.config, arguments.config.settings);
  JobDescription job =
      describe_job(config, arguments.config.config,
                   arguments.self_contained ? ConfigPlace::inside : ConfigPlace::where_it_is,
                   arguments.check ? std::optional(find_needs(config)) : std::nullopt);
  job.slurmrestd = arguments.api;
  const std::string text = render(form, job);
  if (arguments.output.empty()) {
    fmt::print("{}", text);
  } else {
    io::write_file_atomically(arguments.output, text);
  }
  return 0;
}

}  // namespace hadal::launch
