"""What budgets.py makes of its readings, without a server: python3 -m unittest discover -s Tests/Benchmarks"""
import json
import unittest

import budgets


class Comparing(unittest.TestCase):
    BUDGETS = {"allocations": 100.0, "context_switches": 1.0, "system_calls": 4.0}

    def test_within_a_fifth_is_good(self):
        for factor in (0.81, 1.0, 1.2):
            counted = {name: value * factor for name, value in self.BUDGETS.items()}
            self.assertEqual(budgets.compare(counted, self.BUDGETS, 0.2), ([], []), factor)

    def test_each_figure_is_held_by_its_own_budget(self):
        for name in budgets.FIGURES:
            counted = dict(self.BUDGETS, **{name: self.BUDGETS[name] * 1.21})
            wrong, better = budgets.compare(counted, self.BUDGETS, 0.2)
            self.assertEqual(len(wrong), 1)
            self.assertTrue(wrong[0].startswith(name), wrong)
            self.assertIn("21% above", wrong[0])
            self.assertEqual(better, [])

    def test_a_missing_budget_is_wrong_and_an_uncounted_figure_is_not(self):
        wrong, _ = budgets.compare({"system_calls": 3.0}, {"system_calls": None}, 0.2)
        self.assertIn("no budget", wrong[0])
        self.assertEqual(budgets.compare({"system_calls": None}, self.BUDGETS, 0.2), ([], []))

    def test_much_below_the_budget_is_told(self):
        wrong, better = budgets.compare(dict(self.BUDGETS, allocations=50.0), self.BUDGETS, 0.2)
        self.assertEqual(wrong, [])
        self.assertIn("50% below", better[0])

    def test_the_budgets_in_git_have_what_is_compared(self):
        kept = json.loads(budgets.BUDGETS.read_text())
        self.assertEqual(set(kept["per_message"]), set(budgets.FIGURES))
        self.assertEqual(set(kept["load"]), {"bytes", "pairs", "rate"})
        self.assertEqual(kept["tolerance"], 0.2)


class Reading(unittest.TestCase):
    def test_medians_have_three_digits_and_need_every_round(self):
        rounds = [{"allocations": a, "system_calls": s, "context_switches": 0}
                  for a, s in ((123.456, 1), (99, None), (987.65, 2))]
        self.assertEqual(
            budgets.medians(rounds), {"allocations": 123.0, "system_calls": None, "context_switches": 0.0})
        self.assertEqual(budgets.precise(0.012345), 0.0123)

    def test_context_switches_of_both_kinds_and_all_threads(self):
        text = "Name:\tmartlet\nThreads:\t9\nvoluntary_ctxt_switches:\t150\nnonvoluntary_ctxt_switches:\t7\n"
        self.assertEqual(budgets.switches([text, text]), 314)

    def test_what_perf_prints(self):
        text = ("# started on Fri\n\n12345,,probe_libc:malloc,5000123456,100.00,,\n"
                "55,,probe_libc:calloc,5000123456,100.00,,\n")
        self.assertEqual(budgets.perf_sum(text), 12400)
        for bad in ("", "<not counted>,,raw_syscalls:sys_enter,0,100.00,,\n", "Error: no permission\n"):
            with self.assertRaises(budgets.Unavailable):
                budgets.perf_sum(bad)

    def test_where_the_c_library_is(self):
        maps = ("55d0-55d1 r--p 00000000 fe:00 1 /usr/bin/libcool.so/martlet\n"
                "7fc3-7fc4 r-xp 00026000 fe:00 20 /lib/x86_64-linux-gnu/libcurl.so.4\n"
                "7fc3-7fc4 r-xp 00026000 fe:00 21 /lib/x86_64-linux-gnu/libc.so.6\n7ffc-7ffd rw-p 0 00:00 0 [stack]\n")
        self.assertEqual(budgets.c_library(maps), "/lib/x86_64-linux-gnu/libc.so.6")
        with self.assertRaises(budgets.Unavailable):
            budgets.c_library(maps.replace("libc.so.6", "libm.so.6"))

    def test_a_program_that_is_not_there_or_fails(self):
        with self.assertRaisesRegex(budgets.Unavailable, "not installed"):
            budgets.run("martlet-has-no-such-program")
        with self.assertRaisesRegex(budgets.Unavailable, "fails"):
            budgets.run("false")


if __name__ == "__main__":
    unittest.main()
