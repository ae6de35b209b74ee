"""What counts as a race, told from two places of a file: one under a lock and one that is not."""
import pathlib
import tempfile
import unittest

import reports

SOURCE = """final class Counter {
    func count() {
        state.withLock { state in
            state += 1
        }
        other += 1
    }
}
"""


def report(path, first, second):
    return [
        "WARNING: ThreadSanitizer: Swift access race (pid=1)",
        "  Modifying access of Swift variable at 0x722c000119f8 by thread T2:",
        f"    #0 $s7Counter {path} (tests+0x3efce4) (BuildId: 33)",
        f"    #1 $s7Counter {path}:{first}:15 (tests+0x3efce4) (BuildId: 33)",
        "",
        "  Previous read of size 8 at 0x722c000119f8 by thread T4:",
        f"    #0 $s7Counter {path}:{second}:15 (tests+0x3efce4) (BuildId: 33)",
        "",
        "  Location is heap block of size 176 at 0x722c000119e0 allocated by thread T2:",
        "    #0 malloc tsan_interceptors_posix.cpp:686:5 (tests+0x269990)",
        "",
        "SUMMARY: ThreadSanitizer: Swift access race",
        "==================",
    ]


class ReportTests(unittest.TestCase):
    def sift(self, *places):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "Counter.swift"
            path.write_text(SOURCE)
            written = ["a line"] + [line for first, second in places for line in report(path, first, second)]
            return reports.sift(written)

    def test_both_under_a_lock_is_a_blind_spot(self):
        count, races, rest = self.sift((3, 3))
        self.assertEqual((count, races, rest), (1, [], ["a line"]))

    def test_one_outside_is_a_race(self):
        for places in ((3, 6), (6, 3), (6, 6), (3, 2), (4, 3)):
            self.assertEqual(len(self.sift(places)[1]), 1, places)

    def test_each_report_is_judged_by_itself(self):
        count, races, _ = self.sift((3, 3), (3, 6), (3, 3))
        self.assertEqual((count, len(races)), (3, 1))

    def test_what_the_runtime_hands_over_is_a_blind_spot(self):
        handed = "    #1 swift::StackAllocator<984ul, &(swift::TaskAllocatorSlabMetadata)>::alloc(unsigned long) crtstuff.c"
        written = report("/nowhere.swift", 1, 2)
        self.assertEqual(len(reports.sift(written)[1]), 1)
        self.assertEqual(len(reports.sift(written[:-2] + [handed] + written[-2:])[1]), 0)

    def test_one_that_is_not_understood_is_a_race(self):
        count, races, _ = reports.sift(["WARNING: ThreadSanitizer: something else", "", "=================="])
        self.assertEqual((count, len(races)), (1, 1))


if __name__ == "__main__":
    unittest.main()
