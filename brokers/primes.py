"""Safe primes for the Diffie-Hellman exchange: testing one, and searching for one piece by piece.

A search for 2048 bits takes some minutes of one processor. It keeps no state but how many candidates were tried,
so it may be ended and gone on with at any moment.
"""

import os
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from functools import cache
from math import prod
from multiprocessing import get_context

BITS = 2048
ROUNDS = 24
SIEVE_BELOW = 20_000
# Half of all searches of 2048 bits have ended after so many candidates that the sieve left over.
TYPICAL_TRIES = 4500
PIECE_SECONDS = 1.0


def is_prime(number: int, rounds: int = ROUNDS) -> bool:
    """Miller and Rabin's test: wrong for a composite with a probability below 4 to the power of -rounds."""
    if number < 2 or any(number % small == 0 for small in _small_primes()[:50]):
        return number in _small_primes()
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    return all(_passes(number, odd, twos) for _ in range(rounds))


def is_safe_prime(number: int) -> bool:
    """Whether it is a prime p of which (p - 1) / 2 is one too."""
    return is_prime(number, 1) and is_prime(number // 2, 1) and is_prime(number) and is_prime(number // 2)


def search(seconds: float, bits: int = BITS) -> tuple[int | None, int]:
    """Try random candidates for so long: the safe prime that was found, or None, and how many were tried."""
    ends, tried = time.monotonic() + seconds, 0
    while time.monotonic() < ends:
        half = secrets.randbits(bits - 1) | 1 << (bits - 2)
        # So that 2 generates half of the group, as OpenSSL's dhparam makes them.
        half += 11 - half % 12
        if not _may_be(half):
            continue
        tried += 1
        # Fermat's test by 2 leaves almost nothing over for the thorough one.
        if pow(2, half - 1, half) == 1 and is_safe_prime(2 * half + 1):
            return 2 * half + 1, tried
    return None, tried


def search_on_all_processors(bits: int = BITS) -> Iterator[tuple[int | None, int]]:
    """Search in processes of its own; every second or so the prime, or None, and how many were tried in all.

    Ends with the prime; closing it earlier ends the processes.
    """
    # Spawned: a fork would take the caller's threads and connections along.
    pool = ProcessPoolExecutor(mp_context=get_context("spawn"), initializer=os.nice, initargs=(10,))
    try:
        tried, running = 0, {pool.submit(search, PIECE_SECONDS, bits) for _ in range(os.cpu_count() or 1)}
        while True:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for piece in done:
                prime, count = piece.result()
                tried += count
                yield prime, tried
                if prime is not None:
                    return
                running.add(pool.submit(search, PIECE_SECONDS, bits))
    finally:
        pool.shutdown(cancel_futures=True)


def _may_be(half: int) -> bool:
    """No small prime divides the half or its double plus one."""
    rest = half % _product()
    return all(rest % small and (2 * rest + 1) % small for small in _small_primes()[1:])


def _passes(number: int, odd: int, twos: int) -> bool:
    power = pow(secrets.randbelow(number - 3) + 2, odd, number)
    if power in (1, number - 1):
        return True
    for _ in range(twos - 1):
        power = power * power % number
        if power == number - 1:
            return True
    return False


@cache
def _small_primes() -> tuple[int, ...]:
    sieve = bytearray([1]) * SIEVE_BELOW
    for each in range(2, int(SIEVE_BELOW**0.5) + 1):
        if sieve[each]:
            sieve[each * each :: each] = bytes(len(range(each * each, SIEVE_BELOW, each)))
    return tuple(each for each in range(2, SIEVE_BELOW) if sieve[each])


@cache
def _product() -> int:
    return prod(_small_primes())
