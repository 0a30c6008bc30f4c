"""Regression tests of answers: `cases` says what is asked, `golden` what was answered and what differs,
`regress` runs the cases."""
