"""A claim is told with its verdict in front."""


def test_a_claim_holds_or_does_not(stage):
    assert stage.said(True, "x is 1") == "holds: x is 1"
    assert stage.said(False, "x is 1") == "does NOT hold: x is 1"
