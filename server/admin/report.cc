#include "server/admin/report.h"

#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_format.h"

namespace secateur {
namespace {

using Json = nlohmann::ordered_json;

void PrintJson(const Json& json, std::ostream& out) {
  out << json.dump(2, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace) << "\n";
}

Json ToJson(const std::vector<VerifyReport::Finding>& findings) {
  Json all = Json::array();
  for (const auto& [key, what] : findings) all.push_back({{"key", key}, {"what", what}});
  return all;
}

void PrintFindings(std::string_view word, const std::vector<VerifyReport::Finding>& findings,
                   std::ostream& out) {
  for (const auto& [key, what] : findings) out << word << "  " << key << ": " << what << "\n";
}

Json ToJson(const VerifyReport& report) {
  Json kinds = Json::object();
  for (const auto& [kind, count] : report.kinds) {
    kinds[std::string(kind)] = {{"objects", count.objects},
                                {"bytes", count.bytes},
                                {"damaged", count.damaged},
                                {"orphans", count.orphans}};
  }
  return {{"clean", report.clean()},
          {"kinds", kinds},
          {"damaged", ToJson(report.damaged)},
          {"unknown", ToJson(report.unknown)},
          {"orphans", ToJson(report.orphans)}};
}

Json ToJson(const GarbageReport& report) {
  Json removed = Json::array();
  for (const auto& [key, what, bytes] : report.removed) {
    removed.push_back({{"key", key}, {"kind", what}, {"bytes", bytes}});
  }
  return {{"dry_run", report.dry_run}, {"objects", report.removed.size()},
          {"bytes", report.bytes()},   {"younger", report.younger},
          {"kept", report.kept},       {"removed", removed}};
}

}  // namespace

void Print(const VerifyReport& report, bool json, std::ostream& out) {
  if (json) return PrintJson(ToJson(report), out);
  out << absl::StrFormat("%-16s %8s %16s %8s %8s\n", "KIND", "OBJECTS", "BYTES", "DAMAGED",
                         "ORPHANS");
  for (const auto& [kind, count] : report.kinds) {
    out << absl::StrFormat("%-16s %8d %16d %8d %8d\n", kind, count.objects, count.bytes,
                           count.damaged, count.orphans);
  }
  PrintFindings("DAMAGED", report.damaged, out);
  PrintFindings("unknown", report.unknown, out);
  PrintFindings("orphan ", report.orphans, out);
  out << (report.clean() ? "clean" : "damaged")
      << "; orphans, gc would remove: " << report.orphans.size() << "\n";
}

void Print(const GarbageReport& report, bool json, std::ostream& out) {
  if (json) return PrintJson(ToJson(report), out);
  const std::string_view word = report.dry_run ? "would remove" : "removed";
  for (const auto& [key, what, bytes] : report.removed) {
    out << word << "  " << key << "  (" << what << ", " << bytes << " bytes)\n";
  }
  out << word << " " << report.removed.size() << " objects of " << report.bytes() << " bytes; "
      << report.younger << " orphans are younger than the grace period, " << report.kept
      << " may still be in use\n";
  if (report.dry_run) out << "ages are by this machine's clock, not by the store's\n";
}

}  // namespace secateur
