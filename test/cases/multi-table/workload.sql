UPDATE multi_table_a a JOIN multi_table_b b ON b.a = a.id SET a.v = a.v * 10, b.v = b.v * 100;
DELETE a, b FROM multi_table_a a JOIN multi_table_b b ON b.a = a.id WHERE a.id = 2;
DELETE FROM multi_table_b USING multi_table_b LEFT JOIN multi_table_a ON multi_table_b.a = multi_table_a.id WHERE multi_table_a.id IS NULL;
