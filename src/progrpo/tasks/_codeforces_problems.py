"""The 408 problems of CodeElo by contest, in the order in which DeepCoder's `codeforces` rows and list of ids have them."""

_CONTESTS = """
1971 A B C D E F G H
1972 A B C D1 D2 E F
1973 A B C D E F
1974 A B C D E F G
1975 A B C D E F G H I
1976 A B C D E F
1977 A B C D E
1978 A B C D E F
1979 A B C D E F
1980 A B C D E F1 F2 G
1981 A B C D E F
1982 A B C D E F
1983 A B C D E F G
1984 A B C1 C2 D E F G H
1985 A B C D E F G H1 H2
1986 A B C D E F G1 G2
1987 A B C D E F1 F2 G1 G2 H
1988 A B C D E F
1989 A B C D E F
1990 A B C D E1 E2 F
1991 A B C D E F G H I
1992 A B C D E F G
1993 A B C D E F1 F2
1994 A B C D E F G H
1995 A B1 B2 C D E1 E2
1996 A B C D E F G
1997 A B C D E F
1998 A B C D E1 E2
1999 A B C D E F G1 G2
2000 A B C D E F G H
2001 A B C D E1 E2
2002 A B C D1 D2 E F1 F2 G H
2003 A B C D1 D2 E1 E2 F
2004 A B C D E F G
2005 A B1 B2 C D E1 E2
2006 A B C D E F
2007 A B C D E F
2008 A B C D E F G H
2013 A B C D E F1 F2
2014 A B C D E F G H
2018 A B C D E1 E2 F1 F2 F3
2019 A B C D E F
2020 A B C D E F
2021 A B C1 C2 D E1 E2 E3
2022 A B C D1 D2 E1 E2
2023 A B C D E F
2024 A B C D E F
2025 A B C D E F G
2026 A B C D E F
2027 A B C D1 D2 E1 E2
2028 A B C D E F
2029 A B C D E F G H I
2030 A B C D E F G1 G2
2032 A B C D E F
2033 A B C D E F G
2035 A B C D E F G1 G2 H
2036 A B C D E F G
"""

CONTESTS: dict[int, tuple[str, ...]] = {
    int(line.split()[0]): tuple(line.split()[1:]) for line in _CONTESTS.strip().split("\n")
}
"""Contest id -> the indices of its problems, 57 contests (arXiv:2501.01257; rllm, scripts/deepcoder/benchmark/codeforces)."""

PROBLEMS: tuple[tuple[int, str], ...] = tuple((contest, index) for contest, all_ in CONTESTS.items() for index in all_)
"""(contest, index) of each problem, in that order."""
