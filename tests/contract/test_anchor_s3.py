"""Buckets as anchors: on an emulator of Amazon's S3, and on a gateway that people run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from connectors.aws.anchor import S3Anchor
from connectors.ledger.anchors import Anchor
from tests.contract.anchor_contract import AnchorContract, Place
from tests.contract.anchor_on_s3 import SECRET, S3Contract, hangs, refused
from tests.fixtures.fix_proxy import Proxy
from tests.fixtures.fix_s3 import Bucket, new_bucket
from tests.fixtures.s3_servers import Emulator, VersityGateway


class BucketPlace(Place):
    """A bucket behind a proxy."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.proxy = Proxy(bucket.server.url)

    def open(self) -> Anchor:
        return S3Anchor(self.bucket.place, self.bucket.settings(endpoint=self.proxy.url))

    def away(self) -> None:
        self.proxy.cut()

    def back(self) -> None:
        self.proxy.restore()

    def add(self, key: str, data: bytes) -> None:
        self.bucket.owner.put_object(Bucket=self.bucket.name, Key=f"some/prefix/{key}", Body=data)


def _place(bucket: Bucket) -> Iterator[BucketPlace]:
    place = BucketPlace(bucket)
    try:
        yield place
    finally:
        place.proxy.close()


class TestEmulator(AnchorContract, S3Contract):
    @pytest.fixture
    def server(self, emulator: Emulator) -> Emulator:
        return emulator

    @pytest.fixture
    def place(self, bucket: Bucket) -> Iterator[BucketPlace]:
        yield from _place(bucket)


@pytest.mark.long
class TestGateway(AnchorContract, S3Contract):
    @pytest.fixture
    def server(self, gateway: VersityGateway) -> VersityGateway:
        return gateway

    @pytest.fixture
    def bucket(self, gateway: VersityGateway) -> Iterator[Bucket]:
        with new_bucket(gateway) as made:
            yield made

    @pytest.fixture
    def place(self, bucket: Bucket) -> Iterator[BucketPlace]:
        yield from _place(bucket)

    def test_a_wrong_secret_is_refused_and_not_shown(self, bucket: Bucket) -> None:
        refused(bucket, secret_access_key=SECRET)

    def test_an_endpoint_whose_answers_are_lost_is_given_up_within_seconds(self, bucket: Bucket) -> None:
        hangs(bucket, "half_open")
