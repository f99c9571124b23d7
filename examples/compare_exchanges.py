"""The four exchanges side by side on four gloo ranks: the same loss, the same gradients, other messages."""

from siglip_verify import check

report = check("siglip_verify.loss:SigLipLoss", world_sizes=[4], examples=12, seed=0)
print(f"verdict: {report.verdict}")
for row in report.losses[0].messages:
    print(
        f"{row.exchange:>6}: {row.counted_messages} messages and {row.counted_collectives} collectives a rank, "
        f"{row.counted_payload_bytes} payload bytes ({row.operations})"
    )
