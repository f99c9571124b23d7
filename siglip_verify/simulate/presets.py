"""Clusters that many have, in numbers with sources.

Links. Bandwidths and latencies are those that NCCL itself reckons with when it chooses an algorithm (NVIDIA/nccl,
`src/graph/topo.h` and `src/graph/tuning.cc`, version 2.19 on): NVLink 20.6 GB/s a link on H100 (18 links) and 20.0 on
A100 (12 links), PCIe 12 GB/s for Gen3 x16 and so 24 for Gen4 x16; latency a step, ring algorithm, Simple protocol, as
it is used for megabytes: 3.4 us over NVLink, 5.7 over PCIe, 14 over a network; 8.4 us base latency a call. A network
card is reckoned at what is attained: 48.5 of NDR's 50 GB/s, 23.5 of HDR's 25 (aliyun/SimAI, `calbusbw.h`); Ethernet at
94 % of its rate (1460 bytes of a 1538 byte frame).

Hosts. DGX H100: 8 H100 SXM of 80 GB, one 400 Gb/s ConnectX-7 each (NVIDIA, DGX H100 user guide). DGX A100: 8 A100 of
80 GB, one 200 Gb/s ConnectX-6 each (NVIDIA, DGX A100 user guide). PCIe hosts: 8 L40S of 48 GB without NVLink on PCIe
Gen4, one network card a host (NVIDIA, L40S data sheet).

Devices, from the data sheets, dense: H100 SXM 989 TFLOP/s in bfloat16, 3,350 GB/s; A100 80 GB 312 and 2,039; L40S 362
and 864. Without tensor cores (torch's default for float32) 67, 19.5 and 91.6; float64 34, 9.7 and 1.4. Reckoned at 60 %
for products of the size of a block and 80 % for passes over memory: an assumption, as is 5 us from one kernel to the
next in eager torch, and 40 us for a TCP message over Ethernet.

Loopback has no published source: round numbers of the magnitude that `siglip-verify calibrate` fits to gloo on two
shared processors, half precision guessed from float32. Nothing is concluded from them; fit your own.
"""

from __future__ import annotations

from collections.abc import Mapping

from siglip_verify.simulate.cluster import Cluster, Compute, Link, Uplinks

_PRODUCTS, _PASSES = 0.6, 0.8
_KERNEL_US, _NCCL_CALL_US = 5.0, 8.4


def _gpu(half_tflops: float, single_tflops: float, double_tflops: float, memory_gbytes_per_s: float) -> Compute:
    """Return a device by the peaks of its data sheet, reckoned at what is attained."""
    return Compute(
        tflops_per_s={
            "bfloat16": half_tflops * _PRODUCTS,
            "float16": half_tflops * _PRODUCTS,
            "float32": single_tflops * _PRODUCTS,
            "float64": double_tflops * _PRODUCTS,
        },
        memory_gbytes_per_s=memory_gbytes_per_s * _PASSES,
        operation_us=_KERNEL_US,
    )


H100_IB = Cluster(
    name="h100-ib",
    about="8 H100 a host, NVLink, one InfiniBand NDR card a rank (as DGX H100)",
    ranks_per_host=8,
    memory_gbytes=80,
    call_us=_NCCL_CALL_US,
    within_host=Link(latency_us=3.4, gbytes_per_s=18 * 20.6),
    between_hosts=Uplinks(latency_us=14, gbytes_per_s=48.5, per_host=8),
    compute=_gpu(989, 67, 34, 3350),
)

A100_IB = Cluster(
    name="a100-ib",
    about="8 A100 a host, NVLink, one InfiniBand HDR card a rank (as DGX A100)",
    ranks_per_host=8,
    memory_gbytes=80,
    call_us=_NCCL_CALL_US,
    within_host=Link(latency_us=3.4, gbytes_per_s=12 * 20.0),
    between_hosts=Uplinks(latency_us=14, gbytes_per_s=23.5, per_host=8),
    compute=_gpu(312, 19.5, 9.7, 2039),
)


def _pcie(name: str, gbits_per_s: float) -> Cluster:
    return Cluster(
        name=name,
        about=f"8 L40S a host on PCIe Gen4, one {gbits_per_s:g} Gb/s Ethernet card a host",
        ranks_per_host=8,
        memory_gbytes=48,
        call_us=_NCCL_CALL_US,
        within_host=Link(latency_us=5.7, gbytes_per_s=24),
        between_hosts=Uplinks(latency_us=40, gbytes_per_s=gbits_per_s / 8 * 0.94, per_host=1),
        compute=_gpu(362, 91.6, 1.4, 864),
    )


PCIE_25G = _pcie("pcie-25g", 25)
PCIE_100G = _pcie("pcie-100g", 100)

LOOPBACK = Cluster(
    name="loopback",
    about="gloo processes on one small machine, as `check` runs them: indicative, neither measured here nor a promise",
    ranks_per_host=64,
    memory_gbytes=2,
    call_us=100,
    message_us=300,
    gather_backward="all_to_all",
    within_host=Link(latency_us=400, gbytes_per_s=0.6, duplex="half"),
    compute=Compute(
        tflops_per_s={"float32": 0.02, "float64": 0.01, "bfloat16": 0.005, "float16": 0.002},
        memory_gbytes_per_s=3,
        operation_us=15,
    ),
)

PRESETS: Mapping[str, Cluster] = {
    cluster.name: cluster for cluster in (H100_IB, A100_IB, PCIE_100G, PCIE_25G, LOOPBACK)
}
