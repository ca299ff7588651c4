// Requests of methods that tests of the queue know.
#pragma once

#include <string>

#include "server/jobs/operation.h"

namespace secateur {

inline OperationRequest Request(const std::string& method, const std::string& request,
                                const std::string& request_id = "") {
  return {.method = method, .target = "models/m", .request_id = request_id, .request = request};
}

}  // namespace secateur
