REPLACE INTO replace_ VALUES (1, 'a', 10);
REPLACE INTO replace_ VALUES (4, 'b', 40);
REPLACE INTO replace_ VALUES (3, 'a', 50), (5, 'e', 5);
REPLACE INTO replace_ SELECT id + 100, code, n FROM (SELECT * FROM replace_) r;
