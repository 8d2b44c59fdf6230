INSERT INTO insert_select_b (v) SELECT UUID_SHORT() FROM insert_select_a;
INSERT INTO insert_select_b (v) SELECT v FROM insert_select_a WHERE id > 1;
INSERT INTO insert_select_a (v) SELECT LEFT(CONCAT(v, RAND()), 20) FROM insert_select_a a2 WHERE LENGTH(v) < 3;
