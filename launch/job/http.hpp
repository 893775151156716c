#pragma once
// Requests to the REST interfaces that take jobs: over TCP, TLS or a Unix socket.

#include <filesystem>
#include <string>
#include <vector>

namespace hadal::launch {

struct HttpReply {
  long status = 0;
  std::string body;
};

struct HttpService {
  std::string name;      // in messages: "slurmrestd", "the QCG gateway"
  std::string endpoint;  // http://host:port, https://…/api, or unix:/path/of/socket
  std::vector<std::string> headers;
  double seconds = 30;  // for one request
};

enum class HttpMethod { get, post, remove };

// One request and its answer, whatever its status. What surely did not arrive (no connection, 429,
// 503), and anything that is no post, is tried three times. Throws a launch error where there is no
// answer.
HttpReply send(const HttpService& service, HttpMethod method, const std::string& path,
               const std::string& body = "");

// A launch error that says what the status means, what the service said, and what to do.
[[noreturn]] void fail(const HttpService& service, const HttpReply& reply, const std::string& what);

// The first line of a file that nobody but its owner may read. Throws a usage error.
std::string read_token(const std::filesystem::path& path);

}  // namespace hadal::launch
