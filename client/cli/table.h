// Plain columns: a header, rows, two spaces between columns; widths count characters, not display
// cells. Control characters in cells come out as "?".
#pragma once

#include <ostream>
#include <string>
#include <vector>

namespace secateur::cli {

class Table {
 public:
  // An empty header prints no header line.
  explicit Table(std::vector<std::string> header) : columns_(header.size()) {
    if (!header.empty()) rows_.push_back(std::move(header));
  }

  // Rows may have different lengths.
  void AddRow(std::vector<std::string> row);
  void Print(std::ostream& out) const;

 private:
  size_t columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace secateur::cli
