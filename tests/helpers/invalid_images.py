"""Image files of all kinds, most of them invalid, by their bytes."""

import os
import struct
import zlib

import cv2
import numpy as np

WIDTH, HEIGHT = 40, 32


def smooth_image():
    """A smooth (32, 40, 3) image with four different corners."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([10 + 5 * x, 20 + 7 * y, 200 - 3 * x - 2 * y], axis=2).astype(np.uint8)


def encoded(ending, image=None, *options):
    done, content = cv2.imencode(ending, smooth_image() if image is None else image, list(options))
    assert done
    return content.tobytes()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, rows=b"", extra=b"", after=b""):
    """A PNG of 8-bit RGB by hand: any size, any rows (filter byte first)."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows)) + after + chunk(b"IEND", b"")


def animated_png():
    """Two frames of 3 × 2, the first red, the second blue."""
    red, blue = (b"".join(b"\0" + bytes(color) * 3 for _ in range(2)) for color in ((255, 0, 0), (0, 0, 255)))

    def control(number):
        return chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, 3, 2, 0, 0, 1, 10, 0, 0))

    first = chunk(b"acTL", struct.pack(">II", 2, 0)) + control(0)
    second = control(1) + chunk(b"fdAT", struct.pack(">I", 2) + zlib.compress(blue))
    return png(3, 2, red, extra=first, after=second)


def animated_gif():
    """Two frames of 2 × 2, the first red, the second blue."""

    def frame(color):
        # codes of three bits: clear, two pixels, clear, two pixels, end
        bits = sum(code << 3 * place for place, code in enumerate((4, color, color, 4, color, color, 5)))
        data = bits.to_bytes(3, "little")
        return b"\x2c" + struct.pack("<HHHHB", 0, 0, 2, 2, 0) + b"\x02" + bytes([len(data)]) + data + b"\0"

    palette = bytes((255, 0, 0, 0, 0, 255, 0, 0, 0, 0, 0, 0))
    screen = struct.pack("<HHBBB", 2, 2, 0x81, 0, 0)
    delay = b"\x21\xf9\x04\0\x0a\0\0\0"
    return b"GIF89a" + screen + palette + delay + frame(0) + delay + frame(1) + b"\x3b"


def animated_webp():
    """Two frames of 40 × 32, the second black."""

    def part(kind, data):
        return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)

    def frame(image):
        still = encoded(".webp", image, cv2.IMWRITE_WEBP_QUALITY, 101)[12:]
        place = (0).to_bytes(6, "little") + (WIDTH - 1).to_bytes(3, "little") + (HEIGHT - 1).to_bytes(3, "little")
        return part(b"ANMF", place + (100).to_bytes(3, "little") + b"\2" + still)

    canvas = b"\2\0\0\0" + (WIDTH - 1).to_bytes(3, "little") + (HEIGHT - 1).to_bytes(3, "little")
    body = b"WEBP" + part(b"VP8X", canvas) + part(b"ANIM", bytes(6))
    body += frame(smooth_image()) + frame(np.zeros_like(smooth_image()))
    return b"RIFF" + struct.pack("<I", len(body)) + body


def turned_jpeg(orientation=6):
    """A JPEG whose EXIF tag says that it must be turned."""
    tiff = b"II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0) + bytes(4)
    segment = b"Exif\0\0" + tiff
    jpeg = encoded(".jpg")
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + jpeg[2:]


PROGRESSIVE = (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)

# content, or what to do with the path -> what the error says; annotated as 40 × 32
BROKEN = {
    "missing": (lambda path: None, "No such file"),
    "folder": (os.mkdir, "Is a directory"),
    "pipe": (os.mkfifo, "no file of at most"),
    "link_to_itself": (lambda path: path.symlink_to(path), "symbolic links"),
    "empty": (b"", r"not an image .*\(0 bytes\)"),
    "text": (b"<html>404 not found</html>", "not an image"),
    "most_of_a_jpeg": (encoded(".jpg")[: len(encoded(".jpg")) * 4 // 5], "ends before its image data"),
    "jpeg_without_its_last_two_bytes": (encoded(".jpg")[:-2], "ends before its image data"),
    "jpeg_with_zeros_at_its_end": (encoded(".jpg")[:-200] + bytes(200), "ends before its image data"),
    "most_of_a_progressive_jpeg": (
        encoded(".jpg", None, *PROGRESSIVE)[: len(encoded(".jpg", None, *PROGRESSIVE)) * 4 // 5],
        "ends before its image data",
    ),
    "jpeg_header": (encoded(".jpg")[:30], "not an image"),
    "half_a_png": (encoded(".png")[: len(encoded(".png")) // 2], "ends before its image data"),
    "half_a_webp": (encoded(".webp")[: len(encoded(".webp")) // 2], "ends before its image data"),
    "half_a_gif": (animated_gif()[:40], "annotated as|not an image"),
    "half_a_bmp": (encoded(".bmp")[:2000], "not an image"),
    "other_size": (encoded(".png", smooth_image()[:-1]), "is 40×31 pixels, but image 101 is annotated as 40×32"),
    "turned_size": (encoded(".jpg", np.rot90(smooth_image()).copy()), "is 32×40 pixels, but image 101 is annotated as"),
    # a few bytes that claim 10 and 2.7 GB; OpenCV itself would take the second
    "bomb": (png(60_000, 60_000), "is 60000×60000 pixels, but image 101 is annotated as 40×32"),
    "smaller_bomb": (png(30_000, 30_000), "is 30000×30000 pixels, but image 101 is annotated as 40×32"),
}


def write(path, content):
    """Write bytes, or have a function make the file."""
    if callable(content):
        content(path)
    else:
        path.write_bytes(content)
    return path
