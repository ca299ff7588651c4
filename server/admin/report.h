// What a check or a collection came to, as lines for people or as one JSON object.
#pragma once

#include <ostream>

#include "server/admin/collect_garbage.h"
#include "server/admin/verify_store.h"

namespace secateur {

void Print(const VerifyReport& report, bool json, std::ostream& out);
void Print(const GarbageReport& report, bool json, std::ostream& out);

}  // namespace secateur
