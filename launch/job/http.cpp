#include "launch/job/http.hpp"

#include <curl/curl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "io/atomic_file.hpp"
#include "io/error.hpp"
#include "io/json.hpp"

namespace hadal::launch {
namespace {

constexpr int kTries = 3;
// What a service says is shown to people: no more of it than fits a screen.
constexpr std::size_t kLongest = 400;

std::size_t keep(char* data, std::size_t size, std::size_t count, void* text) {
  static_cast<std::string*>(text)->append(data, size * count);
  return size * count;
}

struct ListDeleter {
  void operator()(curl_slist* list) const { ::curl_slist_free_all(list); }
};
using HeaderList = std::unique_ptr<curl_slist, ListDeleter>;

HeaderList header_list(const HttpService& service, bool has_body) {
  HeaderList list;
  const auto add = [&](const std::string& line) {
    curl_slist* const longer = ::curl_slist_append(list.get(), line.c_str());
    if (longer == nullptr) throw std::bad_alloc();
    [[maybe_unused]] curl_slist* const same = list.release();
    list.reset(longer);
  };
  add("Accept: application/json");
  if (has_body) add("Content-Type: application/json");
  for (const std::string& header : service.headers) add(header);
  return list;
}

struct Attempt {
  CURLcode code = CURLE_OK;
  HttpReply reply;
};

Attempt attempt(const HttpService& service, HttpMethod method, const std::string& path,
                const std::string& body) {
  const std::unique_ptr<CURL, void (*)(CURL*)> curl(::curl_easy_init(), ::curl_easy_cleanup);
  if (!curl) throw io::Error(io::ErrorKind::launch, "libcurl cannot be started");
  Attempt result;
  const HeaderList headers = header_list(service, method == HttpMethod::post);
  std::string url = service.endpoint + path;
  if (service.endpoint.starts_with("unix:")) {
    ::curl_easy_setopt(curl.get(), CURLOPT_UNIX_SOCKET_PATH, service.endpoint.c_str() + 5);
    url = "http://localhost" + path;
  }
  const auto milliseconds = static_cast<long>(service.seconds * 1000);
  ::curl_easy_setopt(curl.get(), CURLOPT_URL, url.c_str());
  ::curl_easy_setopt(curl.get(), CURLOPT_HTTPHEADER, headers.get());
  ::curl_easy_setopt(curl.get(), CURLOPT_PROTOCOLS_STR, "http,https");
  ::curl_easy_setopt(curl.get(), CURLOPT_NOSIGNAL, 1L);
  ::curl_easy_setopt(curl.get(), CURLOPT_CONNECTTIMEOUT_MS, std::min(milliseconds, 10000L));
  ::curl_easy_setopt(curl.get(), CURLOPT_TIMEOUT_MS, milliseconds);
  ::curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, keep);
  ::curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, &result.reply.body);
  if (method == HttpMethod::post) {
    ::curl_easy_setopt(curl.get(), CURLOPT_POSTFIELDSIZE, static_cast<long>(body.size()));
    ::curl_easy_setopt(curl.get(), CURLOPT_POSTFIELDS, body.c_str());
  } else if (method == HttpMethod::remove) {
    ::curl_easy_setopt(curl.get(), CURLOPT_CUSTOMREQUEST, "DELETE");
  }
  result.code = ::curl_easy_perform(curl.get());
  ::curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &result.reply.status);
  return result;
}

bool never_arrived(const Attempt& attempt) {
  return attempt.code == CURLE_COULDNT_CONNECT || attempt.code == CURLE_COULDNT_RESOLVE_HOST;
}

// A job that was posted and not answered may be there all the same: it is not posted again.
bool worth_another(const Attempt& attempt, HttpMethod method) {
  if (never_arrived(attempt)) return true;
  if (attempt.code != CURLE_OK) return method != HttpMethod::post;
  const long status = attempt.reply.status;
  if (status == 429 || status == 503) return true;
  return method != HttpMethod::post && (status == 502 || status == 504);
}

const char* meaning(long status) {
  if (status == 400 || status == 422) return "it does not take the job as it is";
  if (status == 401)
    return "the token is missing, wrong or too old; give a fresh one, --token-file";
  if (status == 403) return "this user may not";
  if (status == 404) return "it knows no such job, or the endpoint is another service's";
  if (status == 405) return "the endpoint is another service's, or of another version";
  if (status == 409) return "it has such a job already";
  if (status == 413) return "the job is too large for it";
  if (status == 429) return "too many requests; try again later";
  if (status >= 300 && status < 400) return "it is somewhere else; give its own address";
  if (status >= 500) return "it is not well; try again later, or tell whoever runs it";
  return "an answer that nobody expects";
}

// What services put errors into: a text, or texts in a list of tables.
std::string said(const std::string& body) {
  const nlohmann::json answer = io::parse_json(body);
  std::string text;
  if (answer.is_object() && answer.contains("errors") && answer["errors"].is_array()) {
    for (const auto& error : answer["errors"]) {
      if (!error.is_object()) continue;
      for (const char* key : {"error", "description"}) {
        if (!error.contains(key) || !error[key].is_string()) continue;
        text.append(text.empty() ? "" : "; ").append(error[key].get<std::string>());
      }
    }
  }
  if (text.empty()) text = body;
  return text.substr(0, kLongest);
}

}  // namespace

HttpReply send(const HttpService& service, HttpMethod method, const std::string& path,
               const std::string& body) {
  static const CURLcode started = ::curl_global_init(CURL_GLOBAL_DEFAULT);
  if (started != CURLE_OK) throw io::Error(io::ErrorKind::launch, "libcurl cannot be started");
  for (int tried = 1;; ++tried) {
    const Attempt result = attempt(service, method, path, body);
    if (tried < kTries && worth_another(result, method)) {
      std::this_thread::sleep_for(std::chrono::seconds(tried));
      continue;
    }
    if (result.code == CURLE_OK) return result.reply;
    throw io::Error(
        io::ErrorKind::launch,
        fmt::format("{} at {} does not answer ({}){}", service.name, service.endpoint,
                    ::curl_easy_strerror(result.code),
                    method == HttpMethod::post && !never_arrived(result)
                        ? "; the job may be there all the same: look before you submit it again"
                        : ""));
  }
}

void fail(const HttpService& service, const HttpReply& reply, const std::string& what) {
  throw io::Error(
      io::ErrorKind::launch,
      fmt::format("{}: {} at {} says {}: {}{}", what, service.name, service.endpoint, reply.status,
                  meaning(reply.status), reply.body.empty() ? "" : " (" + said(reply.body) + ")"));
}

std::string read_token(const std::filesystem::path& path) {
  struct stat facts {};
  if (::stat(path.c_str(), &facts) != 0) {
    throw io::system_error(io::ErrorKind::usage, "cannot read the token in", path.string(), errno);
  }
  if ((facts.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
    throw io::Error(io::ErrorKind::usage,
                    fmt::format("others may read the token in {}: chmod 600 it", path.string()));
  }
  const std::string text = io::read_file(path);
  const std::string token = text.substr(0, text.find_first_of("\r\n"));
  if (token.empty()) {
    throw io::Error(io::ErrorKind::usage, fmt::format("{} holds no token", path.string()));
  }
  return token;
}

}  // namespace hadal::launch
