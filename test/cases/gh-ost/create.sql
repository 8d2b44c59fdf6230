CREATE TABLE gh_ost (id INT PRIMARY KEY, v VARCHAR(20), n INT);
INSERT INTO gh_ost VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3), (4, 'd', 4);
