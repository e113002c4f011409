#include "controls.h"

#include <pybind11/stl.h>

#include "counters.h"
#include "fault.h"
#include "gemm/hopper/wgmma.cuh"
#include "mutant.h"
#include "schedule.h"
#include "tma.h"

namespace py = pybind11;

namespace emu {
namespace {

py::dict dict_of(const LaunchRecord& record) {
  const Counters& c = record.counters;
  py::dict dict;
  dict["kernel"] = record.kernel;
  dict["grid"] = py::make_tuple(record.grid.x, record.grid.y, record.grid.z);
  dict["block"] = py::make_tuple(record.block.x, record.block.y, record.block.z);
  dict["launch_shared_bytes"] = record.launch_shared_bytes;
  dict["barriers"] = c.barriers;
  dict["warp_barriers"] = c.warp_barriers;
  dict["warp_exchanges"] = c.warp_exchanges;
  dict["matrix_products"] = c.matrix_products;
  dict["group_products"] = c.group_products;
  dict["global_reads"] = c.global_reads;
  dict["global_read_bytes"] = c.global_read_bytes;
  dict["async_copy_bytes"] = c.async_copy_bytes;
  dict["tma_loads"] = c.tma_loads;
  dict["tma_load_bytes"] = c.tma_load_bytes;
  dict["tma_stores"] = c.tma_stores;
  dict["tma_store_bytes"] = c.tma_store_bytes;
  dict["mbarrier_arrivals"] = c.mbarrier_arrivals;
  dict["named_barriers"] = c.named_barriers;
  dict["global_writes"] = c.global_writes;
  dict["global_write_bytes"] = c.global_write_bytes;
  dict["shared_reads"] = c.shared_reads;
  dict["shared_writes"] = c.shared_writes;
  dict["matrix_read_conflicts"] = c.matrix_read_conflicts;
  dict["shared_read_conflicts"] = c.shared_read_conflicts;
  dict["shared_write_conflicts"] = c.shared_write_conflicts;
  dict["bank_conflicts"] = c.bank_conflicts();
  return dict;
}

}  // namespace

void bind_controls(py::module_& module) {
  module.def("set_seed", &set_seed, py::arg("seed"), "Draws the order of warps and lanes anew.");
  module.def("last_report", [] { return last_report(); }, "What the last failed launch did wrong.");
  module.def("clear_launches", &clear_launches);
  module.def(
      "launches",
      [] {
        py::list list;
        for (const LaunchRecord& record : launches()) {
          list.append(dict_of(record));
        }
        return list;
      },
      "Kernel, grid, block and counters of every launch since clear_launches().");
  module.def(
      "kernels",
      [] {
        std::vector<std::string> names;
        for (const LaunchRecord& record : launches()) {
          bool known = false;
          for (const std::string& name : names) {
            known = known || name == record.kernel;
          }
          if (!known) {
            names.push_back(record.kernel);
          }
        }
        return names;
      },
      "The kernels launched since clear_launches().");
  module.def("set_driver_has_tensor_maps", &set_driver_has_tensor_maps, py::arg("has"),
             "Whether the driver can make tensor maps for TMA.");
  module.def(
      "set_hopper", [](bool asked) { hopper_asked = asked; }, py::arg("asked"),
      "Whether launchers take the path for cards of 9.0 where it serves a call.");
  module.def(
      "set_mutant", [](int number) { active_mutant = number; }, py::arg("number"),
      "Which planted fault is active; 0 for none.");
}

}  // namespace emu
