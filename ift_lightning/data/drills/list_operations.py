"""Operations on lists of integers."""

from __future__ import annotations

from ift_lightning.data.drills.operation import Operation, Parameter

_SMALL = (2, 3, 4, 5)
_LIMITS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)


def _keep(
    name: str, test: str, phrases: tuple[str, ...], chinese: str,
    k: tuple[Parameter, ...] = (), m: tuple[Parameter, ...] = (),
) -> Operation:  # fmt: skip
    """Return a filter, which is also written as a loop with ``append``."""
    return Operation(
        name, "ints", "ints", f"[x for x in $v if {test}]", phrases, chinese, k, m,
        loop=f"$o = []\nfor x in $v:\n    if {test}:\n        $o.append(x)",
    )  # fmt: skip


def _each(
    name: str, result: str, phrases: tuple[str, ...], chinese: str, k: tuple[Parameter, ...] = ()
) -> Operation:
    """Return an element-wise change, which is also written as a loop with ``append``."""
    return Operation(
        name, "ints", "ints", f"[{result} for x in $v]", phrases, chinese, k,
        loop=f"$o = []\nfor x in $v:\n    $o.append({result})",
    )  # fmt: skip


def _count(
    name: str, test: str, phrases: tuple[str, ...], chinese: str, k: tuple[Parameter, ...] = ()
) -> Operation:
    """Return a count of the elements that meet a condition."""
    return Operation(
        name, "ints", "number", f"sum(1 for x in $v if {test})", phrases, chinese, k,
        loop=f"$o = 0\nfor x in $v:\n    if {test}:\n        $o += 1",
    )  # fmt: skip


FILTERS = (
    _keep("keep_even", "x % 2 == 0",
          ("keep the even numbers", "drop the odd numbers", "keep only even numbers"), "保留偶数"),
    _keep("keep_odd", "x % 2 == 1",
          ("keep the odd numbers", "drop the even numbers", "keep only odd numbers"), "保留奇数"),
    _keep("keep_positive", "x > 0",
          ("keep the positive numbers", "keep only positive numbers"), "保留正数"),
    _keep("keep_negative", "x < 0",
          ("keep the negative numbers", "keep only negative numbers"), "保留负数"),
    _keep("keep_above", "x > $k", ("keep numbers above $k", "keep numbers greater than $k"),
          "保留大于 $k 的数", _LIMITS[1:]),
    _keep("keep_below", "x < $k", ("keep numbers below $k", "keep numbers less than $k"),
          "保留小于 $k 的数", _LIMITS[1:]),
    _keep("keep_between", "$k <= x <= $m",
          ("keep numbers from $k to $m", "keep numbers between $k and $m inclusive"),
          "保留 $k 到 $m 之间的数", (-5, -3, -2, 0, 1), (4, 5, 6, 8, 10)),
    _keep("keep_multiples", "x % $k == 0", ("keep multiples of $k", "keep numbers divisible by $k"),
          "保留 $k 的倍数", (3, 4, 5)),
    _keep("drop_value", "x != $k", ("remove every $k", "drop values equal to $k"),
          "去掉等于 $k 的数", (0, 1, 2, 3, 4)),
    _keep("keep_single", "$v.count(x) == 1",
          ("keep numbers that occur once", "drop numbers that occur more than once"),
          "保留只出现一次的数"),
)  # fmt: skip

CHANGES = (
    _each("add_each", "x + $k", ("add $k to each number", "increase each number by $k"),
          "每个数加 $k", (1, 2, 3, 4, 5, 10)),
    _each("subtract_each", "x - $k",
          ("subtract $k from each number", "decrease each number by $k"),
          "每个数减 $k", (1, 2, 3, 4, 5, 10)),
    _each("multiply_each", "x * $k", ("multiply each number by $k", "scale each number by $k"),
          "每个数乘以 $k", (2, 3, 4, 5, 10)),
    _each("divide_each", "x // $k",
          ("floor-divide each number by $k", "divide each number by $k, rounding down"),
          "每个数整除 $k", _SMALL),
    _each("remainder_each", "x % $k",
          ("take each number modulo $k", "take the remainder of each number by $k"),
          "每个数对 $k 取余", _SMALL),
    _each("square_each", "x * x", ("square each number", "take the square of each number"),
          "每个数取平方"),
    _each("negate_each", "-x", ("negate each number", "flip the sign of each number"),
          "每个数取相反数"),
    _each("abs_each", "abs(x)", ("take absolute values", "take the absolute value of each number"),
          "每个数取绝对值"),
    _each("cap_each", "min(x, $k)", ("cap each number at $k", "limit each number to at most $k"),
          "每个数不超过 $k", (3, 5, 6, 8, 10)),
    _each("floor_each", "max(x, $k)",
          ("raise each number to at least $k", "make each number at least $k"),
          "每个数不低于 $k", (0, 1, 2, 3)),
)  # fmt: skip

ORDER = (
    Operation("sort_ascending", "ints", "ints", "sorted($v)",
              ("sort in ascending order", "sort from smallest to largest"), "升序排列"),
    Operation("sort_descending", "ints", "ints", "sorted($v, reverse=True)",
              ("sort in descending order", "sort from largest to smallest"), "降序排列"),
    Operation("sort_by_size", "ints", "ints", "sorted($v, key=abs)",
              ("sort by absolute value", "order by absolute value"), "按绝对值排序"),
    Operation("reverse_list", "ints", "ints", "$v[::-1]",
              ("reverse the list", "reverse the order"), "反转列表"),
    Operation("take_first", "ints", "ints", "$v[:$k]",
              ("take the first $k items", "keep the first $k items"), "取前 $k 个元素", _SMALL),
    Operation("drop_first", "ints", "ints", "$v[$k:]",
              ("skip the first $k items", "drop the first $k items"),
              "去掉前 $k 个元素", (1, 2, 3)),
    Operation("take_last", "ints", "ints", "$v[-$k:]",
              ("take the last $k items", "keep the last $k items"), "取后 $k 个元素", _SMALL),
    Operation("every_nth", "ints", "ints", "$v[::$k]",
              ("take every item at step $k", "keep one item in every $k"),
              "每隔 $k 个取一个", (2, 3)),
    Operation("unique", "ints", "ints", "list(dict.fromkeys($v))",
              ("remove duplicates", "drop repeated items"), "去重",
              loop="$o = []\nfor x in $v:\n    if x not in $o:\n        $o.append(x)"),
    Operation("append_value", "ints", "ints", "$v + [$k]",
              ("append $k", "add $k at the end"), "在末尾添加 $k", (0, 1, 2, 5, 7)),
    Operation("prepend_value", "ints", "ints", "[$k] + $v",
              ("prepend $k", "put $k at the front"), "在开头添加 $k", (0, 1, 2, 5, 7)),
    Operation("rotate_left", "ints", "ints", "$v[$k:] + $v[:$k]",
              ("rotate left by $k", "move the first $k items to the end"), "左移 $k 位", (1, 2, 3)),
    Operation("repeat_list", "ints", "ints", "$v * $k",
              ("repeat the list $k times", "repeat all items $k times"), "重复列表 $k 次", (2, 3)),
    Operation("differences", "ints", "ints", "[b - a for a, b in zip($v, $v[1:])]",
              ("take differences of neighbours", "subtract each item from the next one"),
              "求相邻元素之差"),
    Operation("running_totals", "ints", "ints", "[sum($v[:i + 1]) for i in range(len($v))]",
              ("take running totals", "replace each item by the sum so far"), "求前缀和"),
    Operation("add_position", "ints", "ints", "[x + i for i, x in enumerate($v)]",
              ("add each item's index to it", "add the index to each item"), "每个数加上其下标"),
)  # fmt: skip

REDUCTIONS = (
    Operation("sum", "ints", "number", "sum($v)",
              ("sum the numbers", "add up the numbers", "take the sum"), "求和",
              loop="$o = 0\nfor x in $v:\n    $o += x"),
    Operation("sum_squares", "ints", "number", "sum(x * x for x in $v)",
              ("sum the squares", "add up the squares"), "求平方和",
              loop="$o = 0\nfor x in $v:\n    $o += x * x"),
    Operation("maximum", "ints", "number", "max($v) if $v else 0",
              ("take the maximum, or 0 if empty", "find the largest number, or 0 if empty"),
              "取最大值，空则为 0"),
    Operation("minimum", "ints", "number", "min($v) if $v else 0",
              ("take the minimum, or 0 if empty", "find the smallest number, or 0 if empty"),
              "取最小值，空则为 0"),
    Operation("spread", "ints", "number", "max($v) - min($v) if $v else 0",
              ("take the maximum minus the minimum, or 0 if empty",
              "take the range of values, or 0 if empty"),
              "求最大值减最小值，空则为 0"),
    Operation("mean", "ints", "number", "sum($v) // len($v) if $v else 0",
              ("take the mean rounded down, or 0 if empty",
              "take the floored average, or 0 if empty"),
              "求平均值（向下取整），空则为 0"),
    Operation("first_item", "ints", "number", "$v[0] if $v else 0",
              ("take the first item, or 0 if empty", "get the first number, or 0 if empty"),
              "取首个元素，空则为 0"),
    Operation("last_item", "ints", "number", "$v[-1] if $v else 0",
              ("take the last item, or 0 if empty", "get the last number, or 0 if empty"),
              "取末尾元素，空则为 0"),
    Operation("count_items", "ints", "number", "len($v)",
              ("count the numbers", "take the length of the list"), "统计元素个数"),
    Operation("count_distinct", "ints", "number", "len(set($v))",
              ("count the distinct numbers", "count the different numbers"), "统计不同元素个数"),
    _count("count_above", "x > $k", ("count numbers above $k", "count numbers greater than $k"),
           "统计大于 $k 的个数", _LIMITS),
    _count("count_even", "x % 2 == 0", ("count the even numbers", "count even numbers"),
          "统计偶数个数"),
    _count("count_equal", "x == $k", ("count how often $k occurs", "count values equal to $k"),
           "统计等于 $k 的个数", (0, 1, 2, 3)),
    Operation("any_negative", "ints", "flag", "any(x < 0 for x in $v)",
              ("check if any number is negative", "tell whether any number is negative"),
              "判断是否有负数"),
    Operation("all_even", "ints", "flag", "all(x % 2 == 0 for x in $v)",
              ("check if all numbers are even", "tell whether all numbers are even"),
              "判断是否全为偶数"),
    Operation("is_sorted", "ints", "flag", "$v == sorted($v)",
              ("check if it is sorted", "tell whether it is in ascending order"), "判断是否升序"),
    Operation("contains_value", "ints", "flag", "$k in $v",
              ("check if $k is in the list", "tell whether $k occurs"),
              "判断是否含有 $k", (0, 1, 2, 3)),
    Operation("join_numbers", "ints", "text", "$k.join(str(x) for x in $v)",
              ("join the numbers with $k", "write the numbers joined by $k"),
              "用 $k 连接各数", (",", "-", "+", " ")),
    Operation("to_words", "ints", "words", "[str(x) for x in $v]",
              ("convert each number to a string", "turn the numbers into strings"),
              "每个数转成字符串"),
    Operation("count_each", "ints", "counts", "{str(x): $v.count(x) for x in $v}",
              ("count each number by its string", "map each number's string to its count"),
              "统计每个数出现的次数"),
)  # fmt: skip

LIST_OPERATIONS = FILTERS + CHANGES + ORDER + REDUCTIONS
